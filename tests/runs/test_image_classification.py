"""Training, resuming, predicting and merging of `ImageClassification`, on tiny models."""

import csv
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from datasets import Image
from fixtures.data import CLASSES, image_rows
from fixtures.runs import environment
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import (
    AutoModelForImageClassification,
    BitImageProcessorPil,
    CLIPConfig,
    CLIPForImageClassification,
    CLIPImageProcessorPil,
    DeiTImageProcessorPil,
    Dinov2Config,
    Dinov2ForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

import kronlit
from kronlit import BitFit, FullFineTuning, HeadOnly, Houlsby, IntrinsicSAID, KronA, LoRA
from kronlit.__main__ import main
from kronlit.adapters.state import fingerprint
from kronlit.data import GLUE, Images
from kronlit.data.tasks import GLUE_TASKS, Task
from kronlit.modules import ImageClassification, SequenceClassification
from kronlit.modules.image_input import ImageInput
from kronlit.training.checkpoint import AtomicCheckpoint

TASK = Task("mine", ("image",), CLASSES)
KRONA = KronA(trains=("head", "layer_norm"))


def build(tiny_vit, images, method=KRONA, **options):
    data = Images("mine", path=str(images), batch_size=4, eval_batch_size=5, **options)
    return ImageClassification(str(tiny_vit), method, data.task, lr=1e-2, warmup=0.1), data


def trainer(folder, *callbacks, **options):
    defaults = {"max_epochs": 2, "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = defaults | {"accelerator": "cpu", "devices": 1, "use_distributed_sampler": False} | options
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), plugins=[AtomicCheckpoint()], **options)


class Losses(Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append((trainer.global_step, batch["row"].tolist(), outputs["loss"].item()))


# --- what the model reads ---

PROCESSORS = {
    "ViT": ViTImageProcessorPil(size={"height": 16, "width": 16}),
    "DeiT": DeiTImageProcessorPil(size={"height": 20, "width": 20}, crop_size={"height": 16, "width": 16}),
    "DINOv2": BitImageProcessorPil(size={"shortest_edge": 18}, crop_size={"height": 16, "width": 16}),
    "CLIP": CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
    "neither scaled nor normalised": ViTImageProcessorPil(
        size={"height": 16, "width": 16}, do_rescale=False, do_normalize=False
    ),
}


def noise(*shape):
    return PIL.Image.fromarray(np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8))


PICTURES = {
    "colours": noise(20, 24, 3),
    "grey": noise(28, 28),
    "with transparency": noise(40, 17, 4),
    "with a palette": noise(19, 30, 3).quantize(16),
}


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("picture", PICTURES)
def test_pixel_values_are_those_of_the_models_own_processor(processor, picture, tmp_path):
    ViTConfig(image_size=16, patch_size=4).save_pretrained(tmp_path)
    PROCESSORS[processor].save_pretrained(tmp_path)
    image = PICTURES[picture].convert("RGB")
    reader = ImageInput(str(tmp_path))
    ours = reader.normalise(torch.from_numpy(reader(image))[None])
    theirs = PROCESSORS[processor](images=image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_values_are_those_of_the_formula(channels, tmp_path):
    mean, std = [0.2, 0.4, 0.6][:channels], [0.5, 0.25, 0.2][:channels]
    ViTConfig(image_size=8, num_channels=channels).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=mean, image_std=std).save_pretrained(tmp_path)
    reader = ImageInput(str(tmp_path))
    image = noise(8, 8, 3).convert(reader.mode)
    planes = np.asarray(image, dtype=np.float64).reshape(8, 8, channels).transpose(2, 0, 1)
    expected = (planes / 255 - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    ours = reader.normalise(torch.from_numpy(reader(image))[None])
    torch.testing.assert_close(ours[0], torch.from_numpy(expected).float(), rtol=0, atol=2e-6)


def test_a_stretched_image_is_all_of_it(tmp_path):
    ViTConfig(image_size=16).save_pretrained(tmp_path)
    PROCESSORS["CLIP"].save_pretrained(tmp_path)
    image = noise(10, 40, 3)
    expected = np.asarray(image.resize((16, 16), PIL.Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert (ImageInput(str(tmp_path))(image, stretch=True) == expected).all()


@pytest.mark.parametrize(
    ("config", "processor", "words"),
    [
        ({"num_channels": 4}, {}, "reads images of 4 channels"),
        (
            {},
            {"size": {"shortest_edge": 16}},
            "reads images of 3 channels and of size .*'shortest_edge': 16}; .*one height and width",
        ),
        ({"num_channels": 1}, {}, r"is damaged: config.json has 1 channels, and `image_mean`"),
        ({}, None, "cannot be loaded as AutoImageProcessor: Can't load image processor"),
    ],
)
def test_a_model_that_reads_no_such_images_is_named(config, processor, words, tmp_path):
    ViTConfig(image_size=16, **config).save_pretrained(tmp_path)
    if processor is not None:
        ViTImageProcessorPil(**{"size": {"height": 16, "width": 16}} | processor).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"`model.plm`='{tmp_path}' {words}"):
        ImageInput(str(tmp_path))


# --- training ---


def test_it_learns_what_can_be_learned(tiny_vit, images, tmp_path):
    seed_everything(0)
    module, data = build(tiny_vit, images)
    losses = Losses()
    trainer(tmp_path, losses, enable_checkpointing=False, max_epochs=12).fit(module, data)
    first, last = losses.values[:10], losses.values[-10:]
    assert sum(loss for *_, loss in last) < 0.6 * sum(loss for *_, loss in first)


@pytest.mark.parametrize(
    ("augment", "workers", "every"),
    [
        ("none", 0, {"every_n_train_steps": 4}),
        ("crop_flip", 0, {"every_n_train_steps": 7}),
        ("crop_flip", 2, {"every_n_train_steps": 13}),
        ("resized_crop_flip", 2, {"every_n_epochs": 1}),
    ],
)
def test_a_resumed_run_is_the_run_that_was_interrupted(augment, workers, every, tiny_vit, images, tmp_path):
    def fit(folder, ckpt_path=None):
        seed_everything(0 if ckpt_path is None else 99)
        module, data = build(tiny_vit, images, augment=augment, num_workers=workers)
        losses = Losses()
        keep = ModelCheckpoint(folder, save_top_k=-1, filename="{step}", **every)
        trainer(folder, losses, keep).fit(module, data, ckpt_path=ckpt_path)
        return losses.values, {name: value.clone() for name, value in module.state_dict().items()}

    whole, weights = fit(tmp_path / "whole")
    assert len(whole) == 20
    for checkpoint in sorted((tmp_path / "whole").glob("*.ckpt")):
        step = int(checkpoint.stem.split("=")[1])
        rest, again = fit(tmp_path / "again" / checkpoint.stem, checkpoint)
        assert rest == whole[step:]
        assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_each_epoch_shows_other_pixels(tiny_vit, images, tmp_path):
    class Seen(Callback):
        def __init__(self):
            self.pixels = {}

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            for row, pixels in zip(batch["row"].tolist(), batch["pixels"], strict=True):
                self.pixels.setdefault(row, []).append(pixels)

    for augment, workers in (("none", 0), ("crop", 2)):
        module, data = build(tiny_vit, images, augment=augment, num_workers=workers)
        seen = Seen()
        trainer(tmp_path, seen, enable_checkpointing=False).fit(module, data)
        same = sum(torch.equal(*pair) for pair in seen.pixels.values())
        assert same == 37 if augment == "none" else same < 8  # one in 35 crops is the one before


@pytest.mark.parametrize(
    "method", [KRONA, LoRA(rank=2), Houlsby(reduction_factor=4), BitFit(), HeadOnly()], ids=lambda m: type(m).__name__
)
def test_a_checkpoint_holds_what_is_trained_and_scores_the_same(method, tiny_vit, images, tmp_path):
    module, data = build(tiny_vit, images, method)
    fitted = trainer(tmp_path, max_steps=8, max_epochs=-1)
    fitted.fit(module, data)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    (before,) = fitted.test(module, data, verbose=False)
    state = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert set(state) == {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    module, data = build(tiny_vit, images, method)
    assert trainer(tmp_path).test(module, data, ckpt_path=tmp_path / "a.ckpt", verbose=False) == [before]


def test_the_loss_is_transformers_own(tiny_vit, images):
    module, data = build(tiny_vit, images)
    module.configure_model()
    module.eval()
    pictures = image_rows(17, 4).select(range(6))  # those of the test set
    batch = module.collate([batch_row(module, data, row) for row in range(6)])
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    inputs = processor(images=list(pictures["img"]), return_tensors="pt")
    theirs = module.model(**inputs, labels=torch.tensor(pictures["label"]))
    torch.testing.assert_close(module.train_loss(batch), theirs.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(module.scores(batch), theirs.logits.softmax(-1), rtol=1e-5, atol=1e-6)


def batch_row(module, data, row):
    from kronlit.data.pixels import Pixels

    return Pixels(data.rows("test"), module.reader, "mine/test")[row]


@pytest.mark.parametrize(("classes", "kept"), [(("a", "b", "c", "d"), True), (("a", "b", "c"), False)])
def test_a_head_of_as_many_classes_is_kept_and_another_is_new_and_trained(classes, kept, tiny_vit):
    module = ImageClassification(str(tiny_vit), KronA(trains=()), Task("mine", ("image",), classes))
    module.configure_model()
    head = module.model.classifier.weight
    files = AutoModelForImageClassification.from_pretrained(tiny_vit).classifier.weight
    assert head.requires_grad != kept
    assert len(head) == len(classes)
    assert (head.shape == files.shape and torch.equal(head, files)) == kept


SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 4}
TEXT = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 99}
MODELS = {
    "vit": lambda: ViTForImageClassification(ViTConfig(**SMALL, intermediate_size=48)),
    "dinov2": lambda: Dinov2ForImageClassification(Dinov2Config(**SMALL, mlp_ratio=2)),
    "clip": lambda: CLIPForImageClassification(
        CLIPConfig(
            vision_config=SMALL | {"intermediate_size": 48},
            text_config=TEXT | {"bos_token_id": 1, "eos_token_id": 2},
        )
    ),
}


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize(
    "method",
    [FullFineTuning(), BitFit(), IntrinsicSAID(intrinsic_dimension=200), KRONA],
    ids=lambda m: type(m).__name__,
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_all_that_is_trained_gets_a_gradient(architecture, method, checkpointing, tmp_path):
    MODELS[architecture]().save_pretrained(tmp_path)
    PROCESSORS["ViT"].save_pretrained(tmp_path)
    module = ImageClassification(str(tmp_path), method, TASK, gradient_checkpointing=checkpointing)
    module.configure_model()
    assert module.model.is_gradient_checkpointing == checkpointing
    assert {name for name, p in module.named_parameters() if "classifier" in name and p.requires_grad}
    for name, parameter in module.named_parameters():  # a random subspace that has not moved hides its scales
        torch.nn.init.normal_(parameter, std=0.1) if name.endswith("theta") else None
    batch = {"pixels": torch.arange(2 * 3 * 256).reshape(2, 3, 16, 16).byte(), "label": torch.tensor([0, 2])}
    module.train_loss(batch).backward()
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert len(trained) > 4


def test_merged_weights_load_in_plain_transformers_with_the_names_of_the_classes(tiny_vit, images, tmp_path):
    module, data = build(tiny_vit, images)
    trainer(tmp_path, max_steps=9, max_epochs=-1, enable_checkpointing=False).fit(module, data)
    module.eval()
    batch = module.collate([batch_row(module, data, row) for row in range(4)])
    before = module(batch)
    kronlit.merge(module.model)
    module.model.save_pretrained(tmp_path / "merged")
    plain = AutoModelForImageClassification.from_pretrained(tmp_path / "merged").eval()
    inputs = PROCESSORS["ViT"](images=list(image_rows(17, 4).select(range(4))["img"]), return_tensors="pt")
    torch.testing.assert_close(plain(**inputs).logits, before, rtol=1e-4, atol=1e-5)
    assert plain.config.id2label == dict(enumerate(CLASSES))


# --- checkpoints of other versions of Transformers ---


def older(name):
    """A name of today as versions of Transformers before 5 had it, and as saved files have it."""
    for new, old in {
        r"\.layers\.": ".encoder.layer.",
        r"attention\.q_proj": "attention.attention.query",
        r"attention\.v_proj": "attention.attention.value",
        r"attention\.o_proj": "attention.output.dense",
        r"mlp\.fc1": "intermediate.dense",
        r"mlp\.fc2": "output.dense",
    }.items():
        name = re.sub(new, old, name)
    return name


KINDS = {
    "deltas": KronA(sites=("query", "value", "attention_output", "ffn_input", "ffn_output")),
    "adapters": Houlsby(reduction_factor=4),
    "layer norms": KRONA,
}


@pytest.mark.parametrize("method", KINDS)
def test_a_checkpoint_with_the_older_names_loads(method, tiny_vit, images, tmp_path):
    module, data = build(tiny_vit, images, KINDS[method])
    fitted = trainer(tmp_path, max_steps=3, max_epochs=-1)
    fitted.fit(module, data)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    (before,) = fitted.test(module, data, verbose=False)
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    names = {name: older(name) for name in checkpoint["state_dict"]}
    assert sum(name != old for name, old in names.items()) == len(names) - 2 - (method == "layer norms") * 2
    checkpoint["state_dict"] = {old: checkpoint["state_dict"][name] for name, old in names.items()}
    torch.save(checkpoint, tmp_path / "older.ckpt")
    module, data = build(tiny_vit, images, KINDS[method])
    assert trainer(tmp_path).test(module, data, ckpt_path=tmp_path / "older.ckpt", verbose=False) == [before]
    trainer(tmp_path, max_steps=4, max_epochs=-1).fit(
        *build(tiny_vit, images, KINDS[method]), ckpt_path=tmp_path / "older.ckpt"
    )

    checkpoint["state_dict"] = dict(reversed(checkpoint["state_dict"].items()))
    torch.save(checkpoint, tmp_path / "reordered.ckpt")
    module, data = build(tiny_vit, images, KINDS[method])
    assert trainer(tmp_path).test(module, data, ckpt_path=tmp_path / "reordered.ckpt", verbose=False) == [before]
    with pytest.raises(ValueError, match="modules stand in another order"):
        trainer(tmp_path, max_steps=4).fit(module, data, ckpt_path=tmp_path / "reordered.ckpt")


def test_a_frozen_model_is_known_in_whatever_order_its_modules_stand():
    modules = {"a": torch.nn.Linear(3, 3), "b": torch.nn.Linear(3, 3), "c": torch.nn.LayerNorm(3)}
    model = torch.nn.ModuleDict(modules).requires_grad_(False)
    other = torch.nn.ModuleDict(dict(reversed(modules.items()))).requires_grad_(False)
    changed = torch.nn.ModuleDict(modules | {"a": torch.nn.Linear(3, 3)}).requires_grad_(False)
    assert fingerprint(model) == fingerprint(other) != fingerprint(changed)


# --- the command line ---


@pytest.fixture
def config(tmp_path, tiny_vit, images):
    content = {
        "model": {
            "class_path": "ImageClassification",
            "init_args": {"plm": str(tiny_vit), "method": {"class_path": "KronA"}},
        },
        "data": {"class_path": "Images", "init_args": {"dataset": "mine", "path": str(images)}},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def run(monkeypatch, capsys, config):
    def run(command, *words):
        monkeypatch.setattr(sys, "argv", ["kronlit", command, "--config", str(config), *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        return code, capsys.readouterr().err

    return run


def lines_of(path):
    return list(csv.DictReader(path.open())) if path.suffix == ".csv" else [json.loads(line) for line in path.open()]


def test_fit_test_and_predict(run, tmp_path):
    assert run("fit", "--test_after_fit", "true", "--data.augment", "crop_flip", "--run_dir", "a")[0] == 0
    fitted = lines_of(tmp_path / "a/version_0/metrics.csv")
    (accuracy,) = [float(row["test/accuracy"]) for row in fitted if row["test/accuracy"]]
    assert run("predict", "--ckpt_path", "best", "--run_dir", "a", "--predictions", "out.jsonl")[0] == 0
    lines = lines_of(tmp_path / "out.jsonl")
    assert [(line["split"], line["row"]) for line in lines] == [("test", row) for row in range(17)]
    right = [line["label"] == CLASSES[label] for line, label in zip(lines, image_rows(17, 4)["label"], strict=True)]
    assert sum(right) / 17 == pytest.approx(accuracy)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_predict_writes_file_label_and_scores_of_a_folder_of_images(suffix, run, tmp_path):
    (tmp_path / "mine/deep").mkdir(parents=True)
    (tmp_path / "mine/notes.txt").write_text("not an image")
    for name in ("b.png", "deep/a.JPG", "c.webp"):
        noise(30, 20, 3).save(tmp_path / "mine" / name)
    code, _ = run("predict", "--data.predict_path", tmp_path / "mine", "--predictions", f"out.{suffix}")
    lines = lines_of(tmp_path / f"out.{suffix}")
    assert code == 0
    assert [line["file"] for line in lines] == [f"{tmp_path}/mine/{name}" for name in ("b.png", "c.webp", "deep/a.JPG")]
    for line in lines:
        scores = line["scores"] if suffix == "jsonl" else {name: float(line[f"score_{name}"]) for name in CLASSES}
        assert sum(scores.values()) == pytest.approx(1)
        assert line["label"] == max(scores, key=scores.get)


def test_hidden_labels_are_not_scored_but_predicted(run, images, tmp_path):
    hidden = image_rows(5).map(lambda row: {"label": -1})
    (tmp_path / "hidden").mkdir()
    shutil.copy(images / "train.parquet", tmp_path / "hidden")
    hidden.to_parquet(tmp_path / "hidden/test.parquet")
    assert "labels of mine/test are hidden" in run("test", "--data.path", tmp_path / "hidden")[1]
    assert run("predict", "--data.path", tmp_path / "hidden", "--predictions", "out.jsonl")[0] == 0
    assert len(lines_of(tmp_path / "out.jsonl")) == 5


def spoilt(tmp_path):
    """A folder whose training images are all damaged."""
    (tmp_path / "bad").mkdir()
    image_rows(9).to_parquet(tmp_path / "bad/validation.parquet")
    rows = image_rows(41).cast_column("img", Image(decode=False))
    rows = rows.map(
        lambda row, number: {"img": {"bytes": row["img"]["bytes"][:90], "path": f"{number}.png"}}, with_indices=True
    )
    rows.to_parquet(tmp_path / "bad/train.parquet")
    return tmp_path / "bad"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_gets_one_line(workers, run, tmp_path):
    words = ["--data.path", spoilt(tmp_path), "--data.augment", "crop"]
    code, err = run("fit", *words, "--data.num_workers", workers)
    assert code == 2
    assert re.search(
        r"^kronlit: mine/train, row \d+ \(\d+\.png\): the image is damaged or not there: .*$", err, re.MULTILINE
    )
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--data.dataset", "cifar", "--data.path", "null"], "`data.dataset`='cifar' is no data set"),
        (["--data.augment", "cut"], "augment='cut' must be one of its choices; there are crop, crop_flip, none"),
        (["--data.predict_file", "x"], "'predict_file'"),
        (["--data.validation_share", "2"], "`data.validation_share`=2.0"),
        (["--model", "SequenceClassification"], "`Images` goes with `--model ImageClassification`, not with Sequ"),
        (["--model.method.sites", "[qury]"], "'vit' has no site 'qury'; it has query, key, value"),
        (["--model.method.a_shape", "[5,7]"], "vit.layers.0.attention.q_proj: `a_shape`=(7, 5)"),
        (["--model.max_length", "9"], "'max_length'"),
    ],
)
def test_a_mistake_gets_one_line_and_exit_code_2(words, line, run, tiny_bert):
    if "SequenceClassification" in words:
        words = [*words, "--model.plm", tiny_bert, "--model.method", "KronA"]
    code, err = run("fit", *words)
    assert code == 2
    assert err.strip().splitlines()[-1].startswith("kronlit: ")
    assert line in err


def test_a_folder_without_images_is_named(run, tmp_path):
    code, err = run("predict", "--data.predict_path", tmp_path / "none")
    assert code == 2
    assert "is no folder with images (.png, .jpg" in err


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda vit, glue: ImageClassification(vit, KRONA, GLUE_TASKS["rte"]),
            "goes with `--data Images`: rte has no images",
        ),
        (lambda vit, glue: ImageClassification(vit, KRONA, GLUE("sst2", glue).task), "sst2 has no images"),
    ],
)
def test_text_is_not_for_image_classification(make, words, tiny_vit, glue):
    with pytest.raises(ValueError, match=words):
        make(str(tiny_vit), str(glue))


@pytest.mark.slow
def test_two_processes_score_and_train_as_one(run, config, tiny_vit, tmp_path):
    quiet = shutil.copytree(tiny_vit, tmp_path / "quiet")  # no dropout: its masks differ from one process to two
    settings = json.loads((quiet / "config.json").read_text())
    (quiet / "config.json").write_text(json.dumps(settings | {"hidden_dropout_prob": 0.0}))
    same = ["--model.plm", quiet, "--data.augment", "crop_flip", "--data.eval_batch_size", "5"]
    same += ["--data.validation_share", "0.4"]
    assert run("fit", *same, "--run_dir", "one", "--data.batch_size", "8")[0] == 0

    command = [sys.executable, "-m", "kronlit", "fit", "--config", config, *same, "--run_dir", "two"]
    command += ["--data.batch_size", "4", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [*map(str, command)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment())
    assert done.returncode == 0, done.stderr

    (one, scores), (two, again) = outcome(tmp_path / "one/version_0"), outcome(tmp_path / "two/version_0")
    assert [accuracy for accuracy, _ in again] == [accuracy for accuracy, _ in scores]
    assert [loss for _, loss in again] == pytest.approx([loss for _, loss in scores], rel=1e-4)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)


def outcome(folder):
    """What was trained in a run's folder, and accuracy and loss of each validation."""
    rows = lines_of(folder / "metrics.csv")
    state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return state, [(float(row["val/accuracy"]), float(row["val/loss"])) for row in rows if row["val/loss"]]


def test_images_are_not_for_a_model_of_text(tiny_bert, images, tmp_path):
    data = Images("mine", path=str(images))
    module = SequenceClassification(str(tiny_bert), KronA(), data.task)
    with pytest.raises(ValueError, match="`Images` goes with `--model ImageClassification`"):
        trainer(tmp_path).fit(module, data)
