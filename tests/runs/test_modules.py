"""Training, resuming, checkpoints and evaluation of the LightningModules, on tiny models."""

import math

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

import kronlit
from kronlit import BitFit, Compacter, FullFineTuning, HeadOnly, IntrinsicSAID, KronA, KronABRes, LoRA, PromptTuning
from kronlit.adapters import placements
from kronlit.data import E2E, GLUE
from kronlit.data.tasks import GLUE_TASKS
from kronlit.modules import CausalLM, SequenceClassification, TextToText
from kronlit.training.checkpoint import AtomicCheckpoint

KRONA = KronA(trains=("head", "layer_norm"))
COMPACTER = Compacter(reduction_factor=4, trains=("head", "layer_norm"))
SAID = IntrinsicSAID(intrinsic_dimension=200)
PROMPT = PromptTuning(num_tokens=5)


class Losses(Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append((trainer.global_step, sorted(batch["row"].tolist()), outputs["loss"].item()))


def build(kind, request, glue, method=KRONA, task="rte", splits="official", **options):
    if kind is CausalLM:
        data = E2E("e2e", path=str(request.getfixturevalue("e2e")), batch_size=4, eval_batch_size=5)
        plm = str(request.getfixturevalue("tiny_gpt2"))
        options = {"max_new_tokens": 12, "num_beams": 2} | options
        return kind(plm, method, data.task, lr=1e-2, warmup=0.1, max_length=32, **options), data
    plm = str(request.getfixturevalue("tiny_t5" if kind is TextToText else "tiny_bert"))
    data = GLUE(task, path=str(glue), splits=splits, batch_size=4, eval_batch_size=5)
    return kind(plm, method, data.task, lr=1e-2, warmup=0.1, max_length=32, **options), data


def trainer(folder, *callbacks, **options):
    defaults = {"max_epochs": 3, "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    plugins = [AtomicCheckpoint()]
    options = defaults | {"accelerator": "cpu", "devices": 1, "use_distributed_sampler": False} | options
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), plugins=plugins, **options)


kinds = pytest.mark.parametrize("kind", [SequenceClassification, TextToText, CausalLM])


@kinds
def test_it_learns_what_can_be_learned(kind, request, tmp_path, glue):
    module, data = build(kind, request, glue, KronA(trains=("all",)))
    module.lr = 1e-3
    losses = Losses()
    seed_everything(0)
    trainer(tmp_path, losses, enable_checkpointing=False, max_epochs=15, limit_val_batches=0).fit(module, data)
    first, last = losses.values[:11], losses.values[-11:]
    assert sum(loss for *_, loss in last) < 0.85 * sum(loss for *_, loss in first)


WHOLE_EPOCHS = [{"every_n_train_steps": 11}, {"every_n_epochs": 1}]


@pytest.mark.parametrize(
    ("kind", "every"),
    [
        *((kind, {"every_n_train_steps": 4}) for kind in (SequenceClassification, TextToText, CausalLM)),
        *((SequenceClassification, every) for every in WHOLE_EPOCHS),
        *(
            pytest.param(kind, every, marks=pytest.mark.matrix)
            for kind in (TextToText, CausalLM)
            for every in WHOLE_EPOCHS
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_a_resumed_run_is_the_run_that_was_interrupted(kind, every, request, tmp_path, glue):
    def fit(folder, ckpt_path=None, **options):
        seed_everything(0 if ckpt_path is None else 99)
        module, data = build(kind, request, glue)
        losses = Losses()
        keep = ModelCheckpoint(folder, save_top_k=-1, filename="{step}", **every)
        trainer(folder, losses, keep, **options).fit(module, data, ckpt_path=ckpt_path)
        return losses.values, {k: v.clone() for k, v in module.state_dict().items()}

    whole, weights = fit(tmp_path / "whole")
    for checkpoint in sorted((tmp_path / "whole").glob("*.ckpt")):
        step = int(checkpoint.stem.split("=")[1])
        rest, again = fit(tmp_path / "again" / checkpoint.stem, checkpoint)
        assert rest == whole[step:]
        assert all(torch.equal(again[name], weights[name]) for name in weights)


@pytest.mark.parametrize("method", [COMPACTER, SAID, PROMPT, KronABRes()], ids=lambda method: type(method).__name__)
def test_whatever_a_method_adds_resumes(method, request, tmp_path, glue):
    def fit(folder, ckpt_path=None):
        seed_everything(0)
        module, data = build(TextToText, request, glue, method)
        losses = Losses()
        keep = ModelCheckpoint(folder, save_top_k=-1, filename="{step}", every_n_train_steps=5)
        trainer(folder, losses, keep, max_epochs=1).fit(module, data, ckpt_path=ckpt_path)
        return losses.values, {name: p.detach().clone() for name, p in module.named_parameters()}

    whole, weights = fit(tmp_path / "whole")
    rest, again = fit(tmp_path / "again", tmp_path / "whole" / "step=5.ckpt")
    assert rest == whole[5:]
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_run_with_validation_inside_the_epoch_and_accumulation_resumes(request, tmp_path, glue):
    options = {"val_check_interval": 5, "accumulate_grad_batches": 2, "limit_train_batches": 9}

    def fit(folder, ckpt_path=None):
        seed_everything(0 if ckpt_path is None else 99)
        module, data = build(SequenceClassification, request, glue)
        losses = Losses()
        keep = ModelCheckpoint(folder, save_top_k=-1, every_n_train_steps=2, filename="{step}")
        trainer(folder, losses, keep, **options).fit(module, data, ckpt_path=ckpt_path)
        return losses.values

    whole = fit(tmp_path / "whole")
    assert len(whole) == 27
    for checkpoint in sorted((tmp_path / "whole").glob("*.ckpt")):
        rest = fit(tmp_path / "again" / checkpoint.stem, checkpoint)
        assert rest == whole[len(whole) - len(rest) :]
        assert len(rest) < 27


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *((SequenceClassification, m) for m in (KRONA, LoRA(rank=2), BitFit(), HeadOnly(), FullFineTuning())),
        *((TextToText, m) for m in (KRONA, LoRA(rank=2), BitFit(), FullFineTuning())),  # a T5 has no head
        *((kind, m) for kind in (SequenceClassification, TextToText) for m in (COMPACTER, SAID, KronABRes())),
        *((CausalLM, m) for m in (KRONA, LoRA(rank=2), COMPACTER, SAID, KronABRes())),
        (TextToText, PROMPT),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_checkpoint_holds_what_is_trained_and_nothing_else(kind, method, request, tmp_path, glue):
    module, data = build(kind, request, glue, method)
    fitted = trainer(tmp_path, max_steps=2)
    fitted.fit(module, data)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert set(checkpoint["state_dict"]) == trained
    (optimizer,) = checkpoint["optimizer_states"]
    assert len(optimizer["state"]) == len(trained)
    assert len(checkpoint["optimizer_states"]) == len(checkpoint["lr_schedulers"]) == 1
    assert not list(tmp_path.glob("*.partial"))


def test_a_layer_that_the_files_lack_is_trained_and_saved(request, tmp_path, glue):
    # tiny_bert is a classifier of two classes; for one of three labels, its head must be new, so take the body alone
    body = AutoModelForSequenceClassification.from_pretrained(request.getfixturevalue("tiny_bert")).bert
    body.pooler = None
    body.save_pretrained(tmp_path / "body")
    AutoTokenizer.from_pretrained(request.getfixturevalue("tiny_bert")).save_pretrained(tmp_path / "body")
    module = SequenceClassification(str(tmp_path / "body"), KronA(trains=()), GLUE_TASKS["rte"])
    module.configure_model()
    trained = {name for name, p in module.named_parameters() if p.requires_grad and "matrix" not in name}
    ends = {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert trained == {f"model.{end}" for end in ends}


@pytest.mark.parametrize(
    ("saved", "loaded", "words"),
    [
        (KronA(), LoRA(rank=2), "lacks .*query.matrix.a|has .*query.matrix.a of shape"),
        (KronA(a_shape=(4, 4)), KronA(), r"has .*query.matrix.a of shape \(4, 4\), not"),
        (KronA(), KronA(sites=("query",)), "has .*value.matrix.a, which this model does not train"),
        (KronA(sites=("query",)), KronA(), "lacks .*value.matrix.a"),
        (KronA(scale=1.0), KronA(scale=9.0), r"was trained with `model.method`=KronA\(.*scale=1.0"),
    ],
)
def test_a_checkpoint_of_another_method_is_refused(saved, loaded, words, request, tmp_path, glue):
    module, data = build(SequenceClassification, request, glue, saved)
    fitted = trainer(tmp_path, max_steps=1)
    fitted.fit(module, data)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    module, data = build(SequenceClassification, request, glue, loaded)
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path).validate(module, data, ckpt_path=tmp_path / "a.ckpt")


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", b".", b"K", None])
def test_a_damaged_checkpoint_is_named(damage, request, tmp_path, glue):
    module, data = build(SequenceClassification, request, glue)
    fitted = trainer(tmp_path, max_steps=1)
    fitted.fit(module, data)
    path = tmp_path / "a.ckpt"
    fitted.save_checkpoint(path)
    path.write_bytes(path.read_bytes()[:5000] if damage is None else damage)
    with pytest.raises(ValueError, match=r"a\.ckpt.* cannot be read: it is damaged"):
        trainer(tmp_path).validate(module, data, ckpt_path=path)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_checkpoint_that_would_run_code_is_refused(request, tmp_path, glue, capsys):
    torch.save({"state_dict": {}, "evil": Evil()}, tmp_path / "evil.ckpt")
    module, data = build(SequenceClassification, request, glue)
    with pytest.raises(ValueError, match=r"evil\.ckpt.* cannot be read"):
        trainer(tmp_path).validate(module, data, ckpt_path=tmp_path / "evil.ckpt")
    assert "executed" not in capsys.readouterr().out


@kinds
@pytest.mark.parametrize("method", [KRONA, COMPACTER, SAID, KronABRes()], ids=lambda method: type(method).__name__)
def test_gradient_checkpointing_gives_the_same_gradients(kind, method, request, glue):
    gradients = []
    for checkpointing in (False, True):
        module, data = build(kind, request, glue, method, gradient_checkpointing=checkpointing)
        seed_everything(0)
        module.configure_model()
        assert module.model.is_gradient_checkpointing == checkpointing
        _, batch = batch_of(module, data, 4)
        seed_everything(0)
        module.train_loss(batch).backward()
        gradients.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() == {n for n, p in module.named_parameters() if p.requires_grad}
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize("precision", ["16-mixed", "16-true", "64-true"])
def test_precisions_that_would_spoil_t5_are_refused_and_another_is_named(
    precision, request, tmp_path, glue, monkeypatch
):
    module, data = build(TextToText, request, glue)
    unfit = trainer(tmp_path, enable_checkpointing=False)
    monkeypatch.setattr(type(unfit), "precision", precision)
    with pytest.raises(ValueError, match=f"`trainer.precision`='{precision}'.*bf16-mixed"):
        unfit.fit(module, data)


def test_adapters_alone_learn(request, glue):
    module, data = build(SequenceClassification, request, glue, KronA(trains=(), scale=4.0))
    seed_everything(0)
    module.configure_model()
    _, batch = batch_of(module, data, 8)
    module.eval()
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=3e-2)
    losses = []
    for _ in range(60):
        loss = module.train_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@kinds
@pytest.mark.parametrize("method", [KRONA, COMPACTER, BitFit()], ids=lambda method: type(method).__name__)
def test_frozen_weights_in_bfloat16_give_what_autocast_makes_of_them(kind, method, request, tmp_path, glue):
    runs = []
    for dtype in ("float32", "auto"):
        module, data = build(kind, request, glue, method, backbone_dtype=dtype)
        seed_everything(0)
        losses, keep = Losses(), ModelCheckpoint(tmp_path / dtype, filename="last")
        trainer(tmp_path, losses, keep, max_epochs=1, precision="bf16-mixed").fit(module, data)
        frozen = [p for p in module.model.parameters() if not p.requires_grad]
        assert {p.dtype for p in frozen} == {torch.float32, torch.bfloat16} if dtype == "auto" else {torch.float32}
        assert all(p.dtype == torch.float32 for p in module.model.parameters() if p.requires_grad)
        (scores,) = trainer(tmp_path, precision="bf16-mixed").validate(module, data, verbose=False)
        runs.append([*(loss for *_, loss in losses.values), scores["val/loss"]])
    # Products of bfloat16 on a CPU add up in an order that depends on where their operands lie.
    assert runs[0] == pytest.approx(runs[1], rel=5e-3)
    other, data = build(kind, request, glue, method)
    trained_in_16_bits = str(tmp_path / "auto" / "last.ckpt")
    trainer(tmp_path).validate(other, data, trained_in_16_bits, verbose=False)  # in float32


def test_bf16_mixed_keeps_what_is_trained_in_float32(request, tmp_path, glue):
    module, data = build(TextToText, request, glue)
    trainer(tmp_path, enable_checkpointing=False, max_steps=2, precision="bf16-mixed").fit(module, data)
    assert {p.dtype for p in module.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize(("warmup", "steps"), [(0.25, 8), (4, 4), (0, 0)])
def test_the_learning_rate_rises_and_falls_linearly(warmup, steps, request, tmp_path, glue):
    rates = []

    class Rates(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    module, data = build(SequenceClassification, request, glue)
    module.warmup = warmup
    trainer(tmp_path, Rates(), max_steps=32, max_epochs=-1, enable_checkpointing=False).fit(module, data)
    expected = [1e-2 * (t / steps if t < steps else (32 - t) / (32 - steps)) for t in range(32)]
    assert rates == pytest.approx(expected)


def test_a_head_of_another_size_is_drawn_anew_and_trained(request, glue):
    module, _ = build(SequenceClassification, request, glue, KronA(trains=()), "mnli")  # the files have two classes
    module.configure_model()
    assert module.model.classifier.weight.shape == (3, 48)
    assert module.model.classifier.weight.requires_grad


def test_weight_decay_spares_the_biases_that_t5_is_given(request, tmp_path, glue):
    module, data = build(TextToText, request, glue, BitFit())
    module.weight_decay = 0.1
    fitted = trainer(tmp_path, max_steps=1, enable_checkpointing=False)
    fitted.fit(module, data)
    assert [group["weight_decay"] for group in fitted.optimizers[0].param_groups] == [0.0]


def test_weight_decay_spares_the_biases_and_the_scalar_of_krona_b(request, tmp_path, glue):
    module, data = build(TextToText, request, glue, KronABRes(num_biases=2, bias_per="module"))
    module.weight_decay = 0.1
    fitted = trainer(tmp_path, max_steps=1, enable_checkpointing=False)
    fitted.fit(module, data)
    names = {id(p): name for name, p in module.named_parameters()}
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in fitted.optimizers[0].param_groups)
    assert all(name.endswith((".a", ".b")) for name in decayed)
    assert {name.split(".host")[0].split(".")[-1] for name in plain} == {"residual_scale", "0", "1"}


def test_a_body_that_does_not_fit_its_config_is_damaged(request, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(request.getfixturevalue("tiny_bert"))
    model.save_pretrained(tmp_path / "bert")
    model.config.num_hidden_layers = 4
    model.config.save_pretrained(tmp_path / "bert")
    module = SequenceClassification(str(tmp_path / "bert"), KronA(), GLUE_TASKS["rte"])
    with pytest.raises(ValueError, match=r"is damaged: its files have no bert\.encoder\.layer\.[23]"):
        module.configure_model()


def test_weight_decay_spares_biases_and_layer_norms(request, tmp_path, glue):
    module, data = build(SequenceClassification, request, glue, FullFineTuning())
    module.weight_decay = 0.1
    fitted = trainer(tmp_path, max_steps=1, enable_checkpointing=False)
    fitted.fit(module, data)
    decayed, plain = fitted.optimizers[0].param_groups
    names = {id(p): name for name, p in module.named_parameters()}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert all(names[id(p)].endswith("bias") or "LayerNorm" in names[id(p)] for p in plain["params"])
    assert not any(names[id(p)].endswith("bias") or "LayerNorm" in names[id(p)] for p in decayed["params"])


@pytest.mark.parametrize(
    ("name", "value"), [("lr", -1.0), ("lr", math.nan), ("weight_decay", -0.1), ("warmup", -1), ("max_length", 2)]
)
def test_bad_numbers_name_themselves(name, value):
    with pytest.raises(ValueError, match=f"`model.{name}`={value}"):
        SequenceClassification("x", KronA(), GLUE_TASKS["rte"], **{name: value})


def test_a_model_that_cannot_be_loaded_is_named():
    module = SequenceClassification("no-such/model", KronA(), GLUE_TASKS["rte"])
    with pytest.raises(ValueError, match=r"`model.plm`='no-such/model' cannot be loaded.*local folder"):
        module.configure_model()


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_hidden_labels_are_not_scored(task, request, tmp_path, glue):
    module, data = build(SequenceClassification, request, glue, task=task)
    with pytest.raises(ValueError, match=rf"labels of {task}/test are hidden \(-1\).*mahabadi"):
        trainer(tmp_path).test(module, data)


# --- losses and scores against plain transformers ---


def batch_of(module, data, n=6):
    rows = data.rows("train")[:n]
    encoded = module.encode(rows)
    columns = encoded | {name: rows[name] for name in ("label", "answers") if name in rows}
    features = [{name: column[i] for name, column in columns.items()} | {"row": i} for i in range(n)]
    return rows, module.collate(features)


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_classification_loss_is_transformers_own(task, request, glue):
    module, data = build(SequenceClassification, request, glue, HeadOnly(), task)
    module.configure_model()
    module.eval()
    rows, batch = batch_of(module, data)
    plain = module.model
    words = AutoTokenizer.from_pretrained(request.getfixturevalue("tiny_bert"))
    inputs = words(rows["sentence1"], rows["sentence2"], padding=True, return_tensors="pt")
    label = torch.tensor(rows["label"])
    theirs = plain(**inputs, labels=label.float() if task == "stsb" else label).loss
    torch.testing.assert_close(module.train_loss(batch), theirs)


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_text_to_text_loss_is_transformers_own(task, request, glue):
    module, data = build(TextToText, request, glue, FullFineTuning(), task)
    module.configure_model()
    module.eval()
    rows, batch = batch_of(module, data)
    words = AutoTokenizer.from_pretrained(request.getfixturevalue("tiny_t5"))
    sources = [f"sentence1: {a} sentence2: {b}" for a, b in zip(rows["sentence1"], rows["sentence2"], strict=True)]
    targets = words(
        [f"{y:.1f}" if task == "stsb" else str(y) for y in rows["label"]], padding=True, return_tensors="pt"
    )
    labels = targets["input_ids"].masked_fill(targets["attention_mask"] == 0, -100)
    plain = AutoModelForSeq2SeqLM.from_pretrained(request.getfixturevalue("tiny_t5")).eval()
    theirs = plain(**words(sources, padding=True, return_tensors="pt"), labels=labels).loss
    torch.testing.assert_close(module.train_loss(batch), theirs)


def test_text_to_text_scores_are_the_likelihoods_of_the_labels(request, glue):
    module, data = build(TextToText, request, glue, FullFineTuning(), "mnli")
    module.configure_model()
    module.eval()
    _, batch = batch_of(module, data, 3)
    words = module.tokenizer
    expected = []
    for label in "012":
        target = words(label, return_tensors="pt")["input_ids"].repeat(3, 1)
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        logits = module.model(**inputs, labels=target).logits
        expected.append(-F.cross_entropy(logits.mT, target, reduction="none").sum(-1))
    torch.testing.assert_close(module.scores(batch), torch.stack(expected, -1).softmax(-1))


def test_what_t5_answers_is_what_is_scored(request, glue):
    module, data = build(TextToText, request, glue, FullFineTuning())
    module.configure_model()
    module.eval()
    _, batch = batch_of(module, data)
    texts = iter(["1", "0", "7", "", "1", "0 0"])
    module._generate = lambda *_: list(texts)
    prediction, _ = module.predictions(batch)
    assert prediction.tolist() == [1, 0, -1, -1, 1, -1]


def test_a_label_that_the_tokenizer_ends_is_generated_whole(request, tmp_path, glue):
    # A T5 taught to say "1" says it, and is right on every row of that label.
    module, data = build(TextToText, request, glue, FullFineTuning())
    module.lr = 3e-3
    original = data.load
    data.load = lambda split: original(split).map(lambda row: {"label": 1})
    fitted = trainer(tmp_path, max_epochs=6, enable_checkpointing=False)
    fitted.fit(module, data)
    assert fitted.callback_metrics["val/accuracy"] == 1.0


def test_merged_weights_score_as_the_adapters_did(request, tmp_path, glue):
    module, data = build(SequenceClassification, request, glue)
    fitted = trainer(tmp_path, max_steps=9, enable_checkpointing=False)
    fitted.fit(module, data)
    module.eval()
    _, batch = batch_of(module, data)
    before = module(batch)
    kronlit.merge(module.model)
    assert not list(placements(module.model))
    torch.testing.assert_close(module(batch), before, rtol=1e-4, atol=1e-5)
