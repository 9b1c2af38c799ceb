"""`kronlit export --format lora`: the nearest LoRA of what merges, against numpy's decomposition and PEFT."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from fixtures.runs import environment
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import kronlit
from kronlit.exchange.peft.truncated import truncate

IN_PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification
base = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
torch.save(PeftModel.from_pretrained(base, sys.argv[2]).eval()(input_ids=torch.arange(4, 18).reshape(2, 7)).logits,
           sys.argv[3])
"""


@pytest.fixture
def kronlit_(kronlit):
    return kronlit


def logits_in_a_new_process(base, folder, tmp_path):
    """What PEFT makes of the folder in a process of its own."""
    words = [sys.executable, "-c", IN_PEFT, str(base), str(folder), str(tmp_path / "logits.pt")]
    subprocess.run(words, check=True, env=environment(), capture_output=True)
    return torch.load(tmp_path / "logits.pt", weights_only=True)


def logits_in_peft(base, folder, auto=AutoModelForSequenceClassification):
    return logits(PeftModel.from_pretrained(auto.from_pretrained(base), folder).eval())


def dense_truncation(change, rank):
    """The nearest matrix of a rank, by numpy, and its relative error in the Frobenius norm."""
    left, values, right = np.linalg.svd(change.double().numpy())
    values[rank:] = 0
    nearest = left[:, : len(values)] @ np.diag(values) @ right[: len(values)]
    return torch.from_numpy(nearest), np.linalg.norm(change.numpy() - nearest) / np.linalg.norm(change.numpy())


def moved(folder, method, seed=0):
    torch.manual_seed(seed)
    model = kronlit.inject(AutoModelForSequenceClassification.from_pretrained(folder), method)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def dense_model(folder, model, change_of):
    """The model of a folder with `change_of(name)` added to the weights that `model` changes, and its head."""
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        for name, placement in kronlit.adapters.placements(model):
            plain.get_submodule(name).weight += change_of(name, placement).float()
        plain.classifier.load_state_dict(model.classifier.state_dict())
    return plain


@torch.no_grad()
def logits(model):
    return model(input_ids=torch.arange(4, 18).reshape(2, 7)).logits


def test_a_kronecker_product_becomes_the_nearest_lora_and_peft_agrees(kronlit_, tiny_bert, tmp_path):
    model = moved(tiny_bert, kronlit.KronA(a_shape=(8, 6), scale=3.0, sites=("query", "ffn_input")))
    kronlit.save(model, tmp_path / "own")
    words = ("export", "--ckpt_path", tmp_path / "own", "--output", tmp_path / "lora", "--format", "lora")
    code, out, err = kronlit_(*words, "--rank", "5")
    assert code == 0, err
    printed = {name: float(error) for name, error in re.findall(r"\| (bert\S+) \| 5 \| (\S+) \|", out)}
    assert len(printed) == 4

    def nearest(name, placement):
        change, error = dense_truncation(3 * torch.kron(placement.matrix.a, placement.matrix.b).detach(), 5)
        assert printed[name] == pytest.approx(error, rel=0.01)
        return change

    expected = logits(dense_model(tiny_bert, model, nearest))
    found = logits_in_a_new_process(tiny_bert, tmp_path / "lora", tmp_path)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (expected - logits(model)).abs().max() > 1e-3
    torch.testing.assert_close(logits(kronlit.load(tmp_path / "lora")), expected, rtol=1e-5, atol=1e-5)

    card = (tmp_path / "lora/README.md").read_text()
    assert all(f"| {name} | 5 | " in card for name in printed)
    largest, mean = re.search(r"probe batch: (\S+) at most, (\S+) on average", out).groups()
    assert f"ifference of a logit on a probe batch: {largest} at most, {mean} on average" in card
    row = {"input_ids": torch.arange(3, 11)[None]}
    with torch.no_grad():
        apart = (model(**row).logits - dense_model(tiny_bert, model, nearest)(**row).logits).abs()
    assert float(largest) == pytest.approx(apart.max().item(), rel=0.02)
    assert float(mean) == pytest.approx(apart.mean().item(), rel=0.02)


def test_an_error_takes_the_least_rank_of_each_module(kronlit_, tiny_bert, tmp_path):
    model = moved(tiny_bert, kronlit.KronA(sites=("query", "ffn_input")))
    kronlit.save(model, tmp_path / "own")
    words = ("export", "--ckpt_path", tmp_path / "own", "--output", tmp_path / "lora", "--format", "lora")
    assert kronlit_(*words, "--error", "0.3")[0] == 0
    tensors = load_file(tmp_path / "lora/adapter_model.safetensors")
    ranks = {}
    for name, placement in kronlit.adapters.placements(model):
        change = torch.kron(placement.matrix.a, placement.matrix.b).detach()
        ranks[name] = len(tensors[f"base_model.model.{name}.lora_A.weight"])
        assert dense_truncation(change, ranks[name])[1] <= 0.3
        assert dense_truncation(change, ranks[name] - 1)[1] > 0.3
    assert len(set(ranks.values())) > 1
    config = json.loads((tmp_path / "lora/adapter_config.json").read_text())
    patterns = {name: rank for name, rank in ranks.items() if rank != config["r"]}
    assert config["rank_pattern"] == config["alpha_pattern"] == patterns

    def nearest(name, placement):
        return dense_truncation(torch.kron(placement.matrix.a, placement.matrix.b).detach(), ranks[name])[0]

    found = logits_in_peft(tiny_bert, tmp_path / "lora")
    torch.testing.assert_close(found, logits(dense_model(tiny_bert, model, nearest)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        kronlit.DoRA(sites=("value",)),
        kronlit.HiRA(rank=4),
        kronlit.OFT(block_size=8),
        kronlit.SURM(),
        kronlit.LiST(bottleneck_width=4),  # changes biases, too
    ],
    ids=lambda method: type(method).__name__,
)
def test_at_full_rank_nothing_of_a_change_is_lost(method, kronlit_, tiny_bert, tmp_path):
    model = moved(tiny_bert, method)
    kronlit.save(model, tmp_path / "own")
    words = ("export", "--ckpt_path", tmp_path / "own", "--output", tmp_path / "lora", "--format", "lora")
    code, out, err = kronlit_(*words, "--rank", "48")
    assert code == 0, err
    assert float(re.search(r"probe batch: (\S+) at most", out)[1]) < 1e-5
    torch.testing.assert_close(logits_in_peft(tiny_bert, tmp_path / "lora"), logits(model), rtol=1e-5, atol=1e-5)


def test_a_run_of_gpt2_whose_parts_of_a_conv1d_are_changed(kronlit_, run_of, tiny_gpt2, e2e, tmp_path):
    data = {"class_path": "E2E", "init_args": {"task": "e2e", "path": str(e2e)}}
    run, state = run_of(tiny_gpt2, "KronA", "CausalLM", data, scale=2.0)
    words = ("export", "--ckpt_path", run, "--output", tmp_path / "lora", "--format", "lora", "--rank", "3")
    code, _, err = kronlit_(*words)
    assert code == 0, err
    plain = AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval()
    for layer in range(2):
        name = f"transformer.h.{layer}.attn.c_attn"
        change = torch.zeros(144, 48)
        for part, rows in (("query", slice(0, 48)), ("value", slice(96, 144))):
            change[rows] = 2 * torch.kron(state[f"{name}.matrix.{part}.a"], state[f"{name}.matrix.{part}.b"])
        with torch.no_grad():
            plain.get_submodule(name).weight += dense_truncation(change, 3)[0].float().T
    found = logits_in_peft(tiny_gpt2, tmp_path / "lora", AutoModelForCausalLM)
    torch.testing.assert_close(found, logits(plain), rtol=1e-4, atol=1e-4)
    assert "| transformer.h.0.attn.c_attn | 3 |" in (tmp_path / "lora/README.md").read_text()


def test_a_change_of_zero_is_a_lora_of_zero():
    found = truncate(torch.zeros(3, 4, dtype=torch.float64), None, 0.05)
    assert found.a.shape == (1, 4)
    assert found.error == 0
    assert not (found.b @ found.a).any()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--format", "lora", "--rank", "0"], "`rank`=0 must be at least 1."),
        (["--format", "lora", "--error", "1.5"], "`error`=1.5 must be a share"),
        (["--format", "lora", "--rank", "4", "--error", "0.1"], "give one of them"),
        (["--rank", "4"], "`rank`=4 is of `--format lora`"),
        (["--format", "lora"], "cannot be merged: an adapter behind a module, with an activation inside"),
        (["--format", "peft"], "`--format lora` takes what merges"),
    ],
)
def test_what_cannot_be_is_one_line(kronlit_, tiny_bert, tmp_path, words, reason):
    kronlit.save(moved(tiny_bert, kronlit.Pfeiffer()), tmp_path / "own")
    code, _, err = kronlit_("export", "--ckpt_path", tmp_path / "own", "--output", tmp_path / "lora", *words)
    assert code == 2
    assert reason in err.strip().splitlines()[-1]
    assert not (tmp_path / "lora").exists()
