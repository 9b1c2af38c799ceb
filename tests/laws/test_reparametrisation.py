"""What a method of one's own does to weights themselves is counted, refused twice and merged, as what stands beside."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

import kronlit
from kronlit.adapters import Delta, ParallelAdapter, parameter_counts
from kronlit.adapters.reparametrisation import Reparametrisation, reparametrise
from kronlit.methods import Method
from kronlit.structured import Kronecker


class Gain(Reparametrisation):
    """A weight times a number for each of its rows."""

    def __init__(self, rows):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(rows, 1))

    def forward(self, original):
        return self.gain * original


@dataclass(frozen=True)
class Gains(Method):
    """All weights of linear modules have gains."""

    def apply(self, model):
        super().apply(model)
        weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
        reparametrise(model, {id(weight): Gain(len(weight)) for weight in weights})


def test_a_reparametrisation_of_ones_own_is_counted_refused_twice_and_merged(tiny_bert):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = {name: len(m.weight) for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    kronlit.inject(model, Gains())
    assert parameter_counts(model) == (sum(rows.values()), parameters)
    with pytest.raises(ValueError, match="already holds adapters"):
        kronlit.inject(model, kronlit.LoRA())
    torch.manual_seed(0)
    for name in rows:
        nn.init.normal_(model.get_submodule(name).parametrizations.weight[0].gain, mean=1.0, std=0.1)
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        before = model(ids).logits
        kronlit.merge(model)
        torch.testing.assert_close(model(ids).logits, before)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert not any("gain" in name for name, _ in model.named_parameters())


def test_what_stands_within_the_host_of_another_is_no_part_of_the_model_as_it_came():
    block = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    plain = sum(parameter.numel() for parameter in block.parameters())
    block[0] = Delta(block[0].requires_grad_(False), 6, 6, Kronecker)
    outer = ParallelAdapter(block, 6, 6, Kronecker)
    trained = sum(parameter.numel() for parameter in outer.parameters() if parameter.requires_grad)
    assert parameter_counts(nn.Sequential(outer)) == (trained, plain)
