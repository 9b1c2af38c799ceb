"""Merged, exported and loaded: what a run gives away, against Transformers and PEFT by themselves."""

import json
import sys

import pytest
import torch
import yaml
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

from kronlit.__main__ import main
from kronlit.checkpoint import adapter_state
from kronlit.exchange.saved_run import configured


@pytest.fixture
def kronlit_(monkeypatch, capsys):
    """Runs a command line in this process; gives its exit code and what it printed on either stream."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["kronlit", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def run_of(tmp_path, glue):
    """Makes the folder of a run whose trained numbers are random, as `fit` would leave it; gives it and its tensors."""

    def make(plm, method, model="SequenceClassification", name="run", **arguments):
        config = {
            "seed_everything": 42,
            "model": {
                "class_path": model,
                "init_args": {"plm": str(plm), "method": {"class_path": method, "init_args": arguments}},
            },
            "data": {"class_path": "GLUE", "init_args": {"task": "rte", "path": str(glue)}},
            "trainer": {"precision": "bf16-mixed"},
        }
        module = configured(config)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
        folder = tmp_path / name / "version_0"
        (folder / "checkpoints").mkdir(parents=True)
        state = adapter_state(module)
        torch.save({"state_dict": state, "kronlit": module._origin()}, folder / "checkpoints/best-epoch=0-step=1.ckpt")
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "summary.json").write_text(json.dumps({"scores": {"val/accuracy": 0.5}, "parameters": 47906}))
        return folder, {name.removeprefix("model."): tensor for name, tensor in state.items()}

    return make


def tokens(model):
    ids = torch.randint(4, 60, (3, 12), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids} | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})


@torch.no_grad()
def logits(model):
    return model.eval()(**tokens(model)).logits


# --- merge ---


def test_a_merged_run_is_the_pretrained_model_with_changed_weights(kronlit_, run_of, wide_bert, tmp_path):
    run, state = run_of(wide_bert, "KronA", a_shape=[2, 384], scale=2.0)
    code, out, err = kronlit_("merge", "--ckpt_path", run, "--output", tmp_path / "merged")
    assert code == 0, err
    difference = float(out.split("probe batch: ")[1].split()[0])
    assert difference < 1e-5
    plain = AutoModelForSequenceClassification.from_pretrained(wide_bert)
    query = plain.bert.encoder.layer[0].attention.self.query.weight
    name = "bert.encoder.layer.0.attention.self.query.matrix"
    with torch.no_grad():
        query += 2 * torch.kron(state[f"{name}.a"], state[f"{name}.b"])
        value = plain.bert.encoder.layer[0].attention.self.value.weight
        value += 2 * torch.kron(
            state[f"{name}.a".replace("query", "value")], state[f"{name}.b".replace("query", "value")]
        )
        plain.classifier.weight.copy_(state["classifier.weight"])
        plain.classifier.bias.copy_(state["classifier.bias"])
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert merged.dtype == torch.float32
    assert merged.config.id2label == {0: "entailment", 1: "not_entailment"}
    torch.testing.assert_close(logits(merged), logits(plain), atol=1e-5, rtol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("the cat")["input_ids"][0] == 1
    card = (tmp_path / "merged/README.md").read_text()
    assert all(word in card for word in ("KronA", "rte", "val/accuracy | 0.5000", "seed 42", "kronlit fit"))
    assert not list(tmp_path.glob(".*.partial"))


def test_a_mixture_is_merged_as_the_mean_of_its_experts(kronlit_, run_of, tiny_t5, tmp_path):
    run, state = run_of(tiny_t5, "AdaMixLoRA", "TextToText", num_experts=3, rank=2, alpha=4.0)
    assert kronlit_("merge", "--ckpt_path", run, "--output", tmp_path / "merged")[0] == 0
    name = "encoder.block.1.layer.0.SelfAttention.q"
    merged, plain = (AutoModelForSeq2SeqLM.from_pretrained(folder) for folder in (tmp_path / "merged", tiny_t5))
    change = 2 * state[f"{name}.matrix.b"].mean(0) @ state[f"{name}.matrix.a"].mean(0)
    expected = plain.get_submodule(name).weight + change
    torch.testing.assert_close(merged.get_submodule(name).weight, expected)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--ckpt_path", "RUN", "--output", "new"], "activation inside"),
        (["--ckpt_path", "RUN", "--output", "there"], "exists already"),
        (["--ckpt_path", "nowhere", "--output", "new"], "`ckpt_path`='nowhere'"),
    ],
)
def test_what_cannot_be_merged_is_refused_in_one_line(kronlit_, run_of, tiny_bert, tmp_path, words, reason):
    run, _ = run_of(tiny_bert, "AdaMix", bottleneck_width=4)
    (tmp_path / "there").mkdir()
    code, _, err = kronlit_("merge", *(str(run) if word == "RUN" else word for word in words))
    assert code == 2
    assert reason in err.strip().splitlines()[-1]
    assert "Traceback" not in err
    assert ("kronlit export" in err) == ("activation" in reason)
    assert not (tmp_path / "new").exists()
