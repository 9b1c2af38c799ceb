"""How a user comes in: what there is, a YAML to begin with, a run right after its command, and words that are wrong."""

import re
import shlex
import subprocess

import pytest
import yaml
from fixtures.runs import ROOT
from transformers import AutoModelForSequenceClassification

from kronlit.cli.configs import first_sentence
from kronlit.cli.short_help import public_classes
from kronlit.config.inner_options import with_backslashes


def test_methods_lists_all_with_their_placements(kronlit):
    code, out, _ = kronlit("methods")
    assert code == 0
    assert set(public_classes("methods")) <= set(out.split())
    assert "Delta at query, value" in " ".join(out.split())


def test_methods_counts_what_injection_trains(kronlit, tiny_bert):
    code, out, _ = kronlit("methods", "--plm", tiny_bert)
    assert code == 0
    counts = {words[0]: words[1:3] for line in out.splitlines() if len(words := line.split()) > 3}
    width, layers = 48, 2
    total = sum(p.numel() for p in AutoModelForSequenceClassification.from_pretrained(tiny_bert).parameters())
    rank_8 = layers * 2 * 2 * 8 * width  # two sites, two factors
    assert counts["LoRA"] == [f"{rank_8:,}", f"{100 * rank_8 / total:.4f}"]
    assert counts["FullFineTuning"] == [f"{total:,}", "100.0000"]
    assert "PromptTuning is for sequence-to-sequence models" in out


def test_models_lists_families_and_the_modules_of_one(kronlit, tiny_bert):
    code, out, _ = kronlit("models")
    assert code == 0
    assert "roberta" in out
    assert "ffn_before_norm" in out
    code, out, _ = kronlit("models", "--plm", tiny_bert)
    assert code == 0
    (query,) = [line.split() for line in out.splitlines() if line.startswith("query")]
    assert query == [
        "query",
        "bert.encoder.layer.*.attention.self.query",
        "2",
        "48",
        "x",
        "48",
        f"{2 * (48 * 48 + 48):,}",
    ]


ROWS = {
    "mine.csv": ("text,label\n" + "a,good\nb,bad\n" * 20, "TextFiles", "SequenceClassification"),
    "chat.jsonl": ('{"prompt": "a", "completion": "b"}\n' * 20, "InstructionFiles", "CausalLM"),
    "pairs.jsonl": ('{"source": "a", "target": "b"}\n' * 20, "TextPairs", "TextToText"),
    "tags.conll": ("a O\nb B-X\n\n" * 20, "TokenFiles", "TokenClassification"),
    "ask.jsonl": ('{"question": "a", "choices": ["b", "c"], "label": 0}\n' * 20, "ChoiceFiles", "MultipleChoice"),
}


METHODS = list(zip(ROWS, ["KronAB", "LoRA", "SURM", "Structured", "BitFit"], strict=True))


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_init_writes_what_fit_takes(kronlit, tmp_path, name, method):
    content, data, job = ROWS[name]
    (tmp_path / name).write_text(content)
    code, out, err = kronlit("init", "--data", name, "--method", method, "--plm", "some/model")
    assert code == 0, err
    path = tmp_path / name.replace(name.split(".")[1], "yaml")
    assert f"kronlit fit --config {path.name}" in out
    code, out, err = kronlit("fit", "--config", path, "--print_config")
    assert code == 0, err
    whole = yaml.safe_load(out)
    assert whole["model"]["class_path"].split(".")[-1] == job
    assert whole["model"]["init_args"]["method"]["class_path"].split(".")[-1] == method
    assert whole["model"]["init_args"]["plm"] == "some/model"
    assert (whole["data"]["class_path"].split(".")[-1], whole["data"]["init_args"]["train"]) == (data, name)
    before = path.read_text()
    assert "# peak learning rate." in before
    code, _, err = kronlit("init", "--data", name)
    assert code == 2
    assert "nothing is overwritten" in err
    assert path.read_text() == before


@pytest.mark.parametrize("data", ["GLUE", "SuperGLUE", "MovieReviews", "TextFiles"])
def test_init_takes_kinds_of_data(kronlit, data):
    assert kronlit("init", "--data", data, "--output", "x.yaml")[0] == 0
    code, _, err = kronlit("fit", "--config", "x.yaml", "--print_config")
    assert code == 0, err


def test_a_run_may_stand_right_after_its_command(kronlit, config, tmp_path):
    assert kronlit("fit", "--config", config, "--trainer.max_steps", "1")[0] == 0
    folder = tmp_path / "runs/small/version_0"
    assert kronlit("merge", folder, "--output", "one")[0] == 0
    assert kronlit("export", folder, "--output", "two")[0] == 0
    assert kronlit("merge", "--ckpt_path", folder, "--output", "three")[0] == 0
    weights = [tmp_path.joinpath(name, "model.safetensors").read_bytes() for name in ("one", "three")]
    assert weights[0] == weights[1]
    (tmp_path / "new.csv").write_text("sentence1,sentence2\nthe cat,a dog\n")
    code, _, err = kronlit("predict", folder, "--data.predict_file", "new.csv", "--predictions", "out.csv")
    assert code == 0, err
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2
    code, _, err = kronlit("test", folder, "--ckpt_path", folder)
    assert code == 2
    assert "given twice" in err


MISTAKES = {
    "fitt": "did you mean 'fit'?",
    "fit --config quikstart": "did you mean 'quickstart'?",
    "fit quickstart": "did you mean `--config quickstart`?",
    "fit --config quickstart --model.method Lora": "did you mean 'LoRA'?",
    "fit --config quickstart --model.method Structured --model.method.matrix Kroneker": "did you mean 'Kronecker'?",
    "fit --config quickstart --model SequenceClasification": "did you mean 'SequenceClassification'?",
    "fit --config quickstart --data TextFile": "did you mean 'TextFiles'?",
    "fit --config quickstart --data GLUE --data.task rt": "did you mean 'rte'?",
    "fit --config quickstart --trainer.max_epoch 1": "did you mean 'max_epochs'?",
    "study --config studies/film_revews": "did you mean 'studies/film_reviews'?",
    "rows --config quikstart": "did you mean 'quickstart'?",
    "info quikstart": "did you mean 'quickstart'?",
    "configs cop": "did you mean 'copy'?",
    "configs copy quikstart": "did you mean 'quickstart'?",
    "configs check quikstart": "did you mean 'quickstart'?",
    "merge runs/x --outptu m": "did you mean 'output'?",
    "export runs/x --output m --format pef": "did you mean 'peft'?",
    "init --method Krona": "did you mean 'KronA'?",
    "init --data TextFile": "did you mean 'TextFiles'?",
    "completion bsh": "did you mean 'bash'?",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_misspelling_is_told_the_nearest_right_word(kronlit, line):
    code, _, err = kronlit(*shlex.split(line))
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert MISTAKES[line] in last
    assert "Traceback" not in err


def test_a_list_of_regular_expressions_in_double_quotes_is_read(kronlit):
    code, out, err = kronlit(
        "fit", "--config", "quickstart", "--model.method.sites", r'[".*\.q_proj"]', "--print_config"
    )
    assert code == 0, err
    assert yaml.safe_load(out)["model"]["init_args"]["method"]["init_args"]["sites"] == [r".*\.q_proj"]
    assert with_backslashes(r'["a\\.b"]') == r'["a\\.b"]'  # an escape that YAML knows stays one


def test_the_script_of_completion_completes(kronlit, tmp_path):
    code, out, _ = kronlit("completion", "bash")
    assert code == 0
    (tmp_path / "script").write_text(out)

    def completed(*words):
        typed = " ".join(f"'{word}'" for word in words)
        # Without mapfile, which zsh and the bash of macOS lack.
        line = f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _kronlit; echo ${{COMPREPLY[@]}}"
        code = f"enable -n mapfile; source ./script; {line}"
        return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert completed("kronlit", "mer") == ["merge"]
    assert completed("kronlit", "fit", "--model.method", "Lo") == ["LoRA", "LowRankAdapter"]
    assert completed("kronlit", "fit", "--config", "quick") == ["quickstart", "quickstart_llm"]
    assert completed("kronlit", "export", "x", "--for") == ["--format"]
    assert "--model.method.rank" in completed("kronlit", "fit", "--model.method.r")
    assert completed("kronlit", "merge", "scr") == ["script"]


def test_configs_lists_own_rows_among_the_first_in_whole_sentences(kronlit):
    _, out, _ = kronlit("configs")
    names = re.findall(r"^  (\S+\.yaml)", out, re.MULTILINE)
    assert names[:3] == ["quickstart.yaml", "own_rows.yaml", "quickstart_llm.yaml"]
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert first_sentence(path.read_text()).endswith("."), path
