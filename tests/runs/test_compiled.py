"""Layers under torch.compile: no graph breaks, and the same numbers. The oracle is the model as it is."""

import csv
import itertools

import pytest
import torch
from fixtures.methods import METHODS, options
from fixtures.runs import fit_words
from torch._dynamo.utils import counters
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

import kronlit as k
from kronlit.training.compiled import layers

NAMES = ["KronA", "KronABRes", "LoRA", "Houlsby", "Compacter", "SURM, circulant", "SURM, Toeplitz everywhere", "SURM"]
OFTEN = (("KronA", "bert"), ("Compacter", "bert"))


@pytest.mark.parametrize(
    ("method", "architecture"),
    [
        case if case in OFTEN else pytest.param(*case, marks=pytest.mark.slow)
        for case in itertools.product(NAMES, ("bert", "t5"))
    ],
)
def test_a_layer_is_one_graph_that_computes_what_it_did(method, architecture, tiny_bert, tiny_t5):
    if architecture == "bert":
        model, labels = AutoModelForSequenceClassification.from_pretrained(tiny_bert), torch.zeros(4, dtype=torch.long)
    else:
        model, labels = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5), torch.full((4, 2), 5)
    k.inject(model, METHODS[method]()).eval()  # eval: no dropout
    ids = torch.randint(3, 60, (4, 40))

    def step():
        model.zero_grad()
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    plain = step()
    torch._dynamo.reset()
    compiled = list(layers(model))
    assert len(compiled) == (2 if architecture == "bert" else 4)
    for layer in compiled:
        layer.compile(fullgraph=True, backend="aot_eager")  # fullgraph: a break is an error
    for ours, theirs in zip(step(), plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["KronA", "SURM"])
def test_a_compiled_run_starts_as_a_plain_one_and_breaks_no_graph(method, config, kronlit, tmp_path):
    kind = ["--config", str(config), *options(method), "--trainer.max_steps", "6"]
    losses = {}
    for name, more in {"plain": [], "compiled": ["--compile_layers", "true"]}.items():
        counters.clear()
        torch._dynamo.reset()
        quiet = ["--trainer.limit_val_batches", "0"]
        code, out, err = kronlit(*fit_words([*kind, *quiet, *more], tmp_path / name, "1", "8", "1e-2"))
        assert code == 0, out + err
        assert bool(counters["frames"]["ok"]) == (name == "compiled")
        assert not counters["graph_break"]
        rows = csv.DictReader((tmp_path / name / "version_0/metrics.csv").open())
        losses[name] = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses["plain"]) == 6
    # The first loss alone: compiled dropout draws other numbers.
    assert losses["compiled"][0] == pytest.approx(losses["plain"][0], rel=0.05)
