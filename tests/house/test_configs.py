"""Every YAML that is shipped: the command in its header runs, and what that resolves to is what the papers say."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fixtures.runs import ROOT
from transformers import ViTConfig, ViTForImageClassification

import kronlit
from kronlit import KronA
from kronlit.__main__ import main

CONFIGS = [
    path for path in sorted((ROOT / "configs").glob("**/*.yaml")) if path.parent.name not in ("studies", "slurm")
]
every = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "configs")))

GLUE = ["cola", "rte", "mrpc", "sst2", "stsb", "mnli", "qnli", "qqp"]
SUPER_GLUE = ["boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc"]

TINY = {
    "TextToText": "wide_t5",
    "SequenceClassification": "wide_bert",
    "ImageClassification": "wide_vit",
    "CausalLM": "tiny_gpt2",
    "PromptClassification": "mlm_roberta",
    "TokenClassification": "wide_bert",
    "QuestionAnswering": "wide_bert",
    "MultipleChoice": "wide_bert",
}
OWN_ROWS = {
    "TextFiles": {"text": "a dog ran", "label": 1},
    "TokenFiles": {"tokens": ["a", "dog", "ran"], "tags": ["O", "B-PET", "O"]},
    "TextPairs": {"source": "a dog ran", "target": "dog"},
    "QuestionFiles": {"question": "a", "context": "dog", "answers": {"text": ["dog"], "answer_start": [0]}},
    "ChoiceFiles": {"question": "a", "choices": ["dog", "cat"], "label": 0},
    "InstructionFiles": {"prompt": "a dog", "completion": "ran"},
}
"""A row of a user's own for each data module that reads such."""


def header(path):
    return " ".join(line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#"))


def command(path):
    """The words of the command in the header, with the configs where they lie."""
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("# kronlit fit")]
    return [str(ROOT / word) if word.startswith("configs/") else word for word in shlex.split(line[1:])]


KRONA = [f"krona_{task}" for task in ("cola", "mrpc", "sst2", "qnli", "qqp")]
"""KronA on the tasks beside one of two classes, one of three and one of scores."""


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path, id=str(path.relative_to(ROOT / "configs")), marks=[pytest.mark.matrix] * (path.stem in KRONA)
        )
        for path in CONFIGS
    ],
)
def test_the_command_in_its_header_runs_on_a_tiny_model(path, monkeypatch, request):
    words = command(path)
    assert str(path) in words
    text = "".join(Path(word).read_text() for word in words if word.endswith(".yaml"))
    model = re.search(rf"class_path: ({'|'.join(TINY)})", text)[1]
    plm = request.getfixturevalue(TINY[model])
    words += ["--model.plm", str(plm)]
    words += ["--data.num_workers", "0"] if model == "ImageClassification" else ["--model.max_length", "32"]
    words += ["--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    if path.stem == "adapter_drop":
        words += ["--model.method.first_layer", "0"]  # the tiny model has one layer
    if path.stem == "list":
        words += ["--model.method.bottleneck_width", "8"]  # and a width of 48
    if "demonstration_filter" in text:
        words += ["--model.demonstration_filter", "sentence-transformers/all-MiniLM-L6-v2"]  # of the package
    if model == "CausalLM":
        words += ["--model.max_new_tokens", "8"]
    if "QuestionAnswering" in text:
        words += ["--model.stride", "8"]
    if own := re.search(rf"class_path: ({'|'.join(OWN_ROWS)})", text):
        rows = [OWN_ROWS[own[1]]] * 9
        rows[1:1] = [row | {"label": 0} for row in rows if "text" in row]  # of one class alone nothing is learned
        Path("own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        words += ["--data.train", "own.jsonl", "--data.validation", "0.2", "--data.test", "0.2"]
    elif "MovieReviews" not in text:
        data = {"CausalLM": "e2e", "ImageClassification": "images", "PromptClassification": "lm_bff"}.get(model, "glue")
        if "class_path: SuperGLUE" in text:
            data = "super_glue"
        words += ["--data.path", str(request.getfixturevalue(data))]
    monkeypatch.setattr(sys, "argv", words)
    main()


@every
def test_its_header_names_paper_and_row(path):
    assert "arXiv:" in header(path)
    assert re.search(
        r"table (\d( \(SuperGLUE\))?|of \w+-\w+), row [^:]*"
        r"(: \d\d\.\d|: \d\.\d{3} % trained|: 0\.07 % trained|: lr|average)"
        r"|table of GPT-2, row (AdaMix LoRA|AdaMix Adapter|LoRA reproduced): \d\d\.\d+ BLEU"
        r"|[Nn]o table row|no row of a table",
        header(path),
    )
    assert len(path.read_text().splitlines()) <= 40


@pytest.fixture
def resolved(monkeypatch, capsys):
    """What configs, by the names that they have or once had, and words resolve to, by the command line itself."""

    def resolve(*words):
        configs = [part for word in words if word.endswith(".yaml") for part in ("--config", word)]
        rest = [word for word in words if not word.endswith(".yaml")]
        monkeypatch.setattr(sys, "argv", ["kronlit", "fit", *configs, *rest, "--print_config"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
        config = yaml.safe_load(capsys.readouterr().out)
        model, data = config["model"]["init_args"], config["data"]["init_args"]
        method = model.pop("method")
        return model, method["class_path"].split(".")[-1], method["init_args"], data, config["trainer"]

    return resolve


def common(model, data, trainer, batch_size=100, accumulate=1):
    """What all runs on GLUE share: Edalati et al., appendix D.3; Mahabadi et al., their code's configs/*.json."""
    assert (model["plm"], model["warmup"], model["max_length"], model["weight_decay"]) == (
        "google-t5/t5-base",
        500,
        128,
        0,
    )
    assert (data["splits"], data["split_seed"], data["batch_size"]) == ("mahabadi", 42, batch_size)
    assert (trainer["gradient_clip_val"], trainer["accumulate_grad_batches"]) == (1.0, accumulate)


# Edalati et al., tables 9, 10 and 16: shape of A and learning rate
KRONA = {
    "cola": ([32, 24], 1e-3),
    "rte": ([32, 24], 2e-3),
    "mrpc": ([32, 24], 1e-3),
    "sst2": ([24, 32], 1e-3),
    "stsb": ([2, 384], 1e-3),
    "mnli": ([2, 384], 1e-3),
    "qnli": ([3, 256], 1e-3),
    "qqp": ([24, 32], 1e-3),
}


@pytest.mark.parametrize("task", GLUE)
def test_krona_is_set_as_its_row_of_the_paper_has_it(resolved, task):
    model, name, method, data, trainer = resolved(f"krona_{task}.yaml")
    common(model, data, trainer)
    assert (method["a_shape"], model["lr"]) == KRONA[task]
    assert (name, method["scale"], method["trains"], method["sites"]) == (
        "KronA",
        1,
        ["layer_norm"],
        ["query", "value"],
    )
    assert (data["task"], trainer["max_epochs"]) == (task, 20)


# Tables 17 and 18: scale, biases and learning rate; the shape is (32, 24) throughout
BRANCHES = {
    ("krona_ab", "cola"): (16, 2, 1e-3),
    ("krona_ab", "rte"): (16, 1, 5e-3),
    ("krona_ab", "mrpc"): (16, 1, 5e-3),
    ("krona_ab", "sst2"): (4, 1, 1e-3),
    ("krona_ab", "stsb"): (16, 1, 1e-3),
    ("krona_ab", "mnli"): (4, 2, 1e-3),
    ("krona_ab", "qnli"): (4, 1, 1e-3),
    ("krona_ab", "qqp"): (4, 1, 1e-3),
    ("krona_ab_res", "cola"): (16, 2, 1e-3),
    ("krona_ab_res", "rte"): (16, 2, 5e-3),
    ("krona_ab_res", "mrpc"): (16, 2, 5e-3),
    ("krona_ab_res", "sst2"): (16, 1, 1e-3),
    ("krona_ab_res", "stsb"): (16, 1, 9e-4),
    ("krona_ab_res", "mnli"): (16, 1, 1e-3),
    ("krona_ab_res", "qnli"): (4, 2, 1e-3),
    ("krona_ab_res", "qqp"): (16, 1, 1e-3),
}


@pytest.mark.parametrize(("stem", "task"), BRANCHES)
def test_krona_b_is_set_as_its_row_of_the_paper_has_it(resolved, stem, task):
    model, name, method, data, trainer = resolved(f"{stem}_{task}.yaml")
    common(model, data, trainer)
    assert (method["scale"], method["num_biases"], model["lr"]) == BRANCHES[stem, task]
    assert (method["a_shape"], method["modules_per_block"], method["sites"]) == ([32, 24], 2, ["ffn"])
    assert (name, method["trains"]) == ({"krona_ab": "KronAB", "krona_ab_res": "KronABRes"}[stem], ["layer_norm"])
    assert stem == "krona_ab" or method["residual_scale"] == 1
    assert (data["task"], trainer["max_epochs"]) == (task, 20)


@pytest.mark.parametrize("task", GLUE)
def test_pa_is_set_as_its_row_of_the_paper_has_it(resolved, task):
    # Table 15
    model, name, method, data, trainer = resolved(f"pa_{task}.yaml")
    common(model, data, trainer)
    assert model["lr"] == {"cola": 3e-3, "rte": 5e-3, "mrpc": 5e-3}.get(task, 1e-3)
    assert (name, method["bottleneck_width"], method["scale"], method["activation"]) == ("PA", 2, 16, "relu")
    assert (data["task"], trainer["max_epochs"], method["trains"]) == (task, 20, ["layer_norm"])


def test_lora_is_set_as_its_row_of_the_paper_has_it(resolved):
    model, name, method, data, trainer = resolved("lora_mnli.yaml")
    common(model, data, trainer)
    assert (name, method["rank"], method["alpha"], model["lr"]) == ("LoRA", 1, None, 1e-3)
    assert (data["task"], trainer["max_epochs"], method["trains"]) == ("mnli", 20, ["layer_norm"])


# Wang et al.: MNLI from the released scripts, the others as recalled; learning rate, epochs, batch size
ADAMIX = {
    "roberta": {
        "mnli": (3e-4, 20, 64),
        "qnli": (3e-4, 20, 64),
        "sst2": (3e-4, 20, 64),
        "qqp": (5e-4, 20, 64),
        "mrpc": (3e-4, 60, 64),
        "cola": (3e-4, 80, 64),
        "rte": (5e-4, 60, 64),
        "stsb": (3e-4, 80, 64),
    },
    "bert": {
        "mnli": (4e-4, 40, 64),
        "qnli": (4e-4, 20, 64),
        "sst2": (4e-4, 40, 64),
        "qqp": (5e-4, 60, 64),
        "mrpc": (4e-4, 100, 16),
        "cola": (5e-4, 100, 16),
        "rte": (5e-4, 80, 64),
        "stsb": (5e-4, 80, 32),
    },
}


@pytest.mark.parametrize("plm", ADAMIX)
@pytest.mark.parametrize("task", GLUE)
def test_adamix_is_set_as_its_scripts_have_it(resolved, plm, task):
    model, name, method, data, trainer = resolved(f"adamix_{plm}_{task}.yaml")
    assert (model["lr"], trainer["max_epochs"], data["batch_size"]) == ADAMIX[plm][task]
    assert (model["warmup"], model["weight_decay"], model["max_length"], model["consistency"]) == (0.06, 0.1, 128, 1.0)
    assert (name, method["num_experts"], method["activation"], method["sites"]) == ("AdaMix", 4, "gelu", ["ffn_output"])
    assert (method["share_up"], method["share_down"], method["idle_experts"]) == (True, False, "update")
    assert method["bottleneck_width"] == {"roberta": 16, "bert": 48}[plm]
    assert model["plm"] == {"roberta": "FacebookAI/roberta-large", "bert": "google-bert/bert-base-uncased"}[plm]
    assert (data["task"], data["splits"]) == (task, "official")


# Wang et al., their code's NLG/README.md and NLG/run_train_*.sh: warm-up, epochs, weight decay, and label smoothing,
# which is the dropout of LoRA too
GPT2 = {
    ("adamix", "e2e"): (2000, 20, 0.01, 0.1),
    ("adamix", "webnlg"): (2500, 25, 0.01, 0.1),
    ("adamix", "dart"): (2000, 20, 0.0, 0.0),
    ("lora", "e2e"): (500, 5, 0.01, 0.1),
    ("lora", "webnlg"): (500, 5, 0.01, 0.1),
    ("lora", "dart"): (500, 5, 0.0, 0.0),
}


@pytest.mark.parametrize("task", ["e2e", "webnlg", "dart"])
@pytest.mark.parametrize("stem", ["adamix", "adamix_lora", "lora"])
def test_gpt2_is_set_as_the_papers_code_has_it(resolved, stem, task):
    model, name, method, data, trainer = resolved(f"{stem}_gpt2_{task}.yaml")
    warmup, epochs, decay, smoothing = GPT2[stem.removesuffix("_lora"), task]
    assert (model["warmup"], trainer["max_epochs"], model["weight_decay"]) == (warmup, epochs, decay)
    assert (model["lr"], data["batch_size"], model["max_length"], model["label_smoothing"]) == (2e-4, 8, 512, smoothing)
    assert (model["plm"], model["dropout"]) == ("openai-community/gpt2-medium", 0.0)
    assert model["consistency"] == (0 if stem == "lora" else 100)
    search = [model[k] for k in ("num_beams", "length_penalty", "no_repeat_ngram_size", "max_new_tokens")]
    assert search == [10, 0.8, 4, 64]
    if stem == "adamix":
        assert (name, method["bottleneck_width"], method["activation"]) == ("AdaMix", 8, "gelu_new")
        assert (method["num_experts"], method["share_down"], method["share_up"]) == (8, False, True)
    else:
        assert (method["rank"], method["alpha"], method["dropout"]) == (4, 32, smoothing)
        assert method["sites"] == ["query", "value"]
        assert name == {"lora": "LoRA", "adamix_lora": "AdaMixLoRA"}[stem]
    if stem == "adamix_lora":
        assert (method["num_experts"], method["share_a"], method["share_b"]) == (8, False, True)
    assert data["task"] == task
    assert trainer["gradient_clip_val"] is None


BOTH, FFN = ["self_attention_output", "ffn_output"], ["ffn_output"]
ADAPTER = {"reduction_factor": 32, "activation": "gelu_new", "trains": ["layer_norm"]}
# Mahabadi et al., configs/*.json of their code: class, learning rate, arguments
METHODS = {
    "full_fine_tuning": ("FullFineTuning", 3e-4, {"trains": ["all"]}),
    "bitfit": ("BitFit", 3e-4, {"trains": ["bias", "head"]}),
    "houlsby": ("Houlsby", 3e-4, ADAPTER | {"sites": BOTH}),
    "pfeiffer": ("Pfeiffer", 3e-4, ADAPTER | {"sites": ["self_attention_output"]}),
    "adapter_drop": ("AdapterDrop", 3e-4, ADAPTER | {"sites": BOTH, "first_layer": 5}),
    "low_rank_adapter": ("LowRankAdapter", 3e-3, ADAPTER | {"sites": BOTH, "rank": 1}),
    "phm_adapter": ("PHMAdapter", 3e-3, ADAPTER | {"sites": BOTH, "phm_dim": 12}),
    "phm_adapter_n4": ("PHMAdapter", 3e-3, ADAPTER | {"sites": BOTH, "phm_dim": 4}),
    "compacter": ("Compacter", 3e-3, ADAPTER | {"sites": BOTH, "phm_dim": 4, "rank": 1}),
    "compacter_n12": ("Compacter", 3e-3, ADAPTER | {"sites": BOTH, "phm_dim": 12, "rank": 1}),
    "compacter_pp": ("CompacterPP", 3e-3, ADAPTER | {"sites": FFN, "phm_dim": 4, "rank": 1}),
    "compacter_pp_n12": ("CompacterPP", 3e-3, ADAPTER | {"sites": FFN, "phm_dim": 12, "rank": 1}),
    "prompt_tuning_random": ("PromptTuning", 3e-2, {"num_tokens": 100, "init": "random", "trains": []}),
    "prompt_tuning_vocabulary": ("PromptTuning", 3e-1, {"num_tokens": 100, "init": "vocabulary", "trains": []}),
    "intrinsic_said": ("IntrinsicSAID", 3e-2, {"intrinsic_dimension": 20_000, "trains": []}),
    # Edalati et al., tables 10 to 18, without what they choose by task
    "lora": ("LoRA", 1e-3, {"rank": 1, "alpha": None, "trains": ["layer_norm"]}),
    "pa": ("PA", 1e-3, {"bottleneck_width": 2, "scale": 16, "activation": "relu", "trains": ["layer_norm"]}),
    "krona": ("KronA", 1e-3, {"a_shape": [32, 24], "scale": 1, "trains": ["layer_norm"]}),
    "krona_ab": ("KronAB", 1e-3, {"a_shape": [32, 24], "scale": 16, "trains": ["layer_norm"]}),
    "krona_ab_res": ("KronABRes", 1e-3, {"a_shape": [32, 24], "scale": 16, "residual_scale": 1}),
}


# What the sources of 2023 to 2026 have, without a table row: class, structure, its arguments, and those of the model
RECENT = {
    "cdka": ("Structured", "KroneckerSum", {"num_components": 8, "r1": 2, "r2": 2, "alpha": 64.0}, {"lr": 2e-3}),
    "moka": ("Structured", "GatedKroneckers", {"a_shapes": None}, {}),
    "c3a": ("Structured", "BlockCirculant", {"block_size": None}, {"head_lr": 4e-6, "weight_decay": 0}),
    "more": ("Structured", "Monarch", {"num_blocks": 4, "rank": 4}, {}),
    "kradapter": ("Structured", "KhatriRao", {"scale": 2.0}, {}),
    "abba": ("Structured", "LowRankHadamard", {"rank1": 16, "rank2": 16, "alpha": 32.0}, {"lr": 1e-3}),
    "quanta": ("Structured", "TensorCircuit", {"axes": None}, {"lr": 1e-4}),
    "hira": ("HiRA", None, {"rank": 32}, {"lr": 4.5e-3}),
    "dora": ("DoRA", "LowRank", {"rank": 8}, {}),
    "oft": ("OFT", None, {"block_size": 32, "neumann_terms": None}, {}),
    "rslora": ("LoRA", None, {"rank_stabilized": True}, {}),
    "lora_plus": ("LoRA", None, {"rank_stabilized": False}, {"lr_multipliers": {"b": 16}}),
}


@pytest.mark.parametrize("stem", RECENT)
def test_a_recent_method_is_set_as_its_source_has_it(resolved, stem):
    kind, structure, arguments, of_model = RECENT[stem]
    base = "t5_glue.yaml" if stem == "cdka" else "bert_glue.yaml"
    model, name, method, _, _ = resolved(base, f"methods/{stem}.yaml", "tasks/mrpc.yaml")
    assert name == kind
    if structure is not None:
        assert method["matrix"]["class_path"] == f"kronlit.structured.{structure}"
        method = method["matrix"]["init_args"]
    given = {key: method.get(key) for key in arguments}  # a structure's None is not written
    assert given == arguments
    assert {key: model[key] for key in of_model} == of_model


STRUCTURES = ["circulant", "toeplitz", "kronecker", "ldr"]


def test_every_method_file_is_under_test():
    others = {"list", "prompt_tuning"}  # under other names
    for path in (ROOT / "configs" / "methods").iterdir():
        assert path.stem in {*METHODS, *others} or "No table row" in header(path)  # such a file holds none to a number


@pytest.mark.parametrize("stem", METHODS)
def test_a_method_is_set_as_the_papers_code_has_it(resolved, stem):
    model, name, method, data, trainer = resolved("t5_glue.yaml", f"methods/{stem}.yaml", "tasks/mrpc.yaml")
    halved = stem in ("prompt_tuning_random", "prompt_tuning_vocabulary", "intrinsic_said")  # 50 rows, twice
    common(model, data, trainer, *((50, 2) if halved else ()))
    assert (name, model["lr"]) == METHODS[stem][:2]
    assert {key: method[key] for key in METHODS[stem][2]} == METHODS[stem][2]


def test_any_structure_is_put_where_the_yaml_says(resolved):
    words = ("bert_glue.yaml", "methods/structured.yaml", "tasks/rte.yaml")
    model, name, method, _, _ = resolved(*words)
    assert (name, model["lr"], model["weight_decay"], method["sites"]) == ("Structured", 1e-3, 0.1, ["query", "value"])
    assert method["matrix"]["class_path"] == "kronlit.structured.LDR"
    assert method["matrix"]["init_args"]["rank"] == 2
    assert header(ROOT / "configs/methods/structured.yaml").count(f"{12 * 2 * 2 * 2 * 768:,} trained in BERT-base") == 1
    _, _, method, _, _ = resolved(*words, "--model.method.matrix", "Toeplitz")
    assert method["matrix"]["class_path"] == "kronlit.structured.Toeplitz"


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("task", ["rte", "mnli"])
def test_surm_is_put_together_for_every_structure(resolved, structure, task):
    # What is ours is held too, so that no run changes unseen
    for stem, name, lr, decay in (("surm", "SURM", 1e-3, 0.1), ("surm_adapter", "SURMAdapter", 2e-3, 0.25)):
        words = ("bert_glue.yaml", f"methods/{stem}_{structure}.yaml", f"tasks/{task}.yaml")
        model, cls, method, data, trainer = resolved(*words)
        assert (cls, method["structure"], method["variant"], method["rank"]) == (name, structure, None, 1)
        assert (model["plm"], model["lr"], model["weight_decay"]) == ("google-bert/bert-base-uncased", lr, decay)
        assert (model["warmup"], model["max_length"], data["batch_size"]) == (0.06, 128, 64)
        assert (data["task"], data["splits"], trainer["max_epochs"]) == (task, "official", 3 if task == "mnli" else 20)
        assert method["dropout"] == (0.15 if name == "SURMAdapter" else 0)


def test_surms_published_script_is_set_to_the_digit(resolved):
    # src/scripts/run_bert_glue.py of its code
    model, name, method, data, trainer = resolved("surm_adapter_circulant_rte.yaml")
    assert (name, method["structure"], method["variant"]) == ("SURMAdapter", "circulant", None)
    assert (method["dropout"], method["activation"]) == (0.15, "gelu")
    assert method["sites"] == ["attention_output", "ffn_output"]
    assert (model["lr"], model["weight_decay"], model["warmup"], model["max_length"]) == (2e-3, 0.25, 0.06, 128)
    assert (data["task"], data["batch_size"], trainer["max_epochs"]) == ("rte", 64, 80)
    assert trainer["gradient_clip_val"] is None
    assert yaml.safe_load((ROOT / "configs/surm_adapter_circulant_rte.yaml").read_text())["seed_everything"] == 3047


@pytest.mark.parametrize("task", [*GLUE, "wnli", *SUPER_GLUE])
def test_epochs_are_those_of_the_papers_code(resolved, task):
    base = "t5_glue.yaml" if task in (*GLUE, "wnli") else "t5_super_glue.yaml"
    _, _, _, data, trainer = resolved(base, "methods/compacter.yaml", f"tasks/{task}.yaml")
    large = task in ("sst2", "mnli", "qnli", "qqp", "multirc", "record")
    assert (data["task"], trainer["max_epochs"]) == (task, 3 if large else 20)
    assert task != "copa" or data["copa_question"] is False


def test_super_glue_is_set_as_the_paper_has_it(resolved):
    words = ("t5_super_glue.yaml", "methods/compacter_pp_n12.yaml", "tasks/rte.yaml")
    model, _, _, data, trainer = resolved(*words)
    assert (model["max_length"], data["batch_size"], model["warmup"], data["splits"]) == (256, 32, 500, "mahabadi")
    assert trainer["gradient_clip_val"] == 1.0


@pytest.mark.parametrize("rows", [100, 500, 1000, 2000, 4000])
def test_a_low_resource_run_is_one_argument(resolved, rows):
    words = ["--data.max_train_samples", str(rows), "--data.sample_seed", "7"]
    _, _, _, data, _ = resolved("t5_glue.yaml", "methods/compacter_pp.yaml", "tasks/sst2.yaml", *words)
    assert (data["max_train_samples"], data["sample_seed"]) == (rows, 7)


def test_cifar_10_is_set_as_surm_has_it_and_takes_other_methods(resolved):
    # The model, the data and the sites are the paper's (table 1, query, key and value)
    model, name, method, data, _ = resolved("vit_cifar10.yaml")
    assert (model["plm"], data["dataset"]) == ("google/vit-base-patch16-224-in21k", "cifar10")
    assert (name, method["sites"], method["trains"]) == ("KronA", ["query", "key", "value"], ["head"])
    model, name, method, data, _ = resolved("vit_cifar10.yaml", "methods/houlsby.yaml")
    assert (name, model["lr"], data["augment"]) == ("Houlsby", 3e-4, "crop_flip")


def test_krona_on_query_key_and_value_of_vit_base_has_as_many_parameters_as_surm():
    with torch.device("meta"):
        model = kronlit.inject(
            ViTForImageClassification(ViTConfig(num_labels=10)), KronA(sites=("query", "key", "value"))
        )
    head = 768 * 10 + 10
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) - head == 55_296


def test_lm_bff_is_set_as_its_scripts_have_it(resolved):
    # run_experiment.sh of princeton-nlp/LM-BFF
    model, name, method, data, trainer = resolved("lm_bff.yaml")
    assert (model["plm"], name, method["trains"]) == ("FacebookAI/roberta-large", "FullFineTuning", ["all"])
    assert (model["lr"] in (1e-5, 2e-5, 5e-5), model["weight_decay"], model["warmup"]) == (True, 0, 0)
    assert (data["k"], data["sampling"], data["protocol"], data["dev"]) == (16, "lm_bff", "lm_bff", "k_shot")
    assert data["batch_size"] in (2, 4, 8)
    assert (trainer["max_steps"], trainer["val_check_interval"], trainer["gradient_clip_val"]) == (1000, 100, 1.0)
    assert (model["demonstrations"], model["max_length"], model["template"]) == (False, None, None)


def test_demonstrations_are_filtered_as_lm_bffs_code_does(resolved):
    model, *_ = resolved("lm_bff.yaml", "lm_bff_demonstrations.yaml")
    assert model["demonstrations"] is True
    assert model["demonstration_filter"] == "sentence-transformers/roberta-large-nli-stsb-mean-tokens"
    assert (model["demonstration_filter_rate"], model["num_demonstrations"]) == (0.5, None)


@pytest.mark.parametrize(("more", "method"), [((), "AdaMix"), (("list_few_shot.yaml",), "LiST")])
def test_adamix_few_shot_is_of_thirty_rows_in_all_and_the_last_weights(resolved, more, method):
    model, name, arguments, data, trainer = resolved("adamix_few_shot.yaml", *more)
    assert (name, arguments["bottleneck_width"], arguments["trains"]) == (method, 128, ["head"])
    assert arguments["sites"] == BOTH
    assert model["consistency"] == (1.0 if method == "AdaMix" else 0.0)
    assert (data["k"], data["sampling"], data["protocol"]) == (30, "list", "true_few_shot")
    assert (data["split_seed"], data["batch_size"], trainer["max_epochs"]) == (1, 4, 50)


@pytest.mark.parametrize("task", GLUE)
def test_the_cell_of_krona_is_its_yaml(task, kronlit, monkeypatch):
    # The same row of the paper stands in two places, by itself and in the study of the table
    monkeypatch.chdir(ROOT)
    code, out, err = kronlit("study", "--config", "krona_table_1", "--only", f"KronA/{task}", "--dry_run", "true")
    assert code == 0, err
    words = shlex.split(out.splitlines()[0])[2:]
    printed = [yaml.safe_load(kronlit("fit", *some, "--print_config")[1]) for some in (
        [*words[: words.index("--seed_everything")], "--scored_rows", "false"],
        ["--config", f"krona_{task}"],
    )]  # fmt: skip
    assert printed[0] == printed[1]


@pytest.mark.parametrize("name", ["quickstart", "configs/quickstart.yaml", "methods/lora", "krona_rte.yaml"])
def test_a_shipped_yaml_is_found_by_name_from_any_folder(name, kronlit, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    base = () if "lora" not in name else ("--config", "bases/t5_glue", "--data.task", "rte")
    code, out, err = kronlit("fit", *base, "--config", name, "--print_config")
    assert code == 0, err
    assert yaml.safe_load(out)["model"]["init_args"]["plm"]


def test_a_file_of_ones_own_comes_before_a_shipped_one(kronlit, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "configs/quickstart.yaml").read_text()
    Path("quickstart").write_text(text.replace("lr: 3e-3", "lr: 7e-3"))
    code, out, _ = kronlit("fit", "--config=quickstart", "--print_config")
    assert (code, yaml.safe_load(out)["model"]["init_args"]["lr"]) == (0, 7e-3)


@pytest.mark.parametrize(
    ("names", "run_dir"),
    [
        (["configs/pa_rte.yaml"], "runs/pa_rte"),
        (["configs/adamix_few_shot.yaml", "configs/list_few_shot.yaml"], "runs/adamix_few_shot-list_few_shot"),
        (["quickstart"], None),
        (["configs/t5_glue.yaml", "configs/methods/lora.yaml", "configs/tasks/rte.yaml"], "runs/t5_glue-lora-rte"),
    ],
)
def test_runs_of_a_retired_name_go_on_in_their_folder(names, run_dir, kronlit):
    code, out, err = kronlit("fit", *(word for name in names for word in ("--config", name)), "--print_config")
    assert code == 0, err
    assert yaml.safe_load(out)["run_dir"] == run_dir


def test_what_is_recalled_is_marked_and_listed():
    marks = {}
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        for line in path.read_text().splitlines():
            assert not re.search(r"[Ff]rom memory|recalled", line), path
            if line.startswith("# RECALLED: "):
                marks[path.relative_to(ROOT / "configs").as_posix()] = line.removeprefix("# RECALLED: ").rstrip(".")
    rows = re.findall(r"^\| `(\S+)` \| (.*) \|$", (ROOT / "docs/recalled.md").read_text(), re.MULTILINE)
    assert dict(rows) == marks
    assert marks
