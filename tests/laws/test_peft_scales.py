"""The scales of what is exported for PEFT, by PEFT's own arithmetic."""

import peft
import pytest
import torch
from peft import LoKrConfig, LoraConfig, inject_adapter_in_model
from torch import nn

from kronlit.exchange.peft.change import Change
from kronlit.exchange.peft.forms import form_of
from kronlit.structured import Circulant, Kronecker, LowRank, Stacked

KRONECKER = lambda: Kronecker(12, 8, a_shape=(2, 3))  # noqa: E731
KINDS = {"LoKr": KRONECKER, "LoRA": lambda: LowRank(12, 8, rank=2), "C3A": lambda: Circulant(8, 8)}


def numbered(matrix):
    for parameter in matrix.parameters():
        nn.init.normal_(parameter)
    return matrix


def deltas(changes):
    """What PEFT adds to the weights of two modules, given what is exported for them."""
    config, tensors, _ = form_of(changes)
    model = nn.ModuleDict({name: nn.Linear(change.shape[1], change.shape[0]) for name, change in changes.items()})
    kind = {"LOKR": LoKrConfig, "LORA": LoraConfig, "C3A": peft.C3AConfig}[config["peft_type"]]
    options = {name: value for name, value in config.items() if name != "peft_type"}
    inject_adapter_in_model(kind(target_modules=list(changes), **options), model)
    peft.set_peft_model_state_dict(model, tensors)
    return {name: model[name].get_delta_weight("default") for name in changes}


@pytest.mark.parametrize("scales", [(1.0, 1.0), (4.0, 4.0), (0.5, 3.0)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_peft_adds_the_scaled_matrix(kind, scales):
    changes = {
        name: Change(numbered(KINDS[kind]()), scale, 0.0, False) for name, scale in zip("ab", scales, strict=True)
    }
    with torch.no_grad():
        found = deltas(changes)
        for name, change in changes.items():
            torch.testing.assert_close(found[name], change.scale * change.matrix.to_dense(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scales", [(3.0, 3.0), (0.5, 3.0)], ids=str)
def test_parts_of_a_fused_projection_keep_the_scale_of_their_module(scales):
    parts = {"query": slice(0, 4), "value": slice(4, 8)}
    changes = {
        name: Change(numbered(Stacked(12, 8, lambda i, o: LowRank(i, o, rank=2), parts)), scale, 0.0, False)
        for name, scale in zip("ab", scales, strict=True)
    }
    with torch.no_grad():
        found = deltas(changes)
        for name, change in changes.items():
            torch.testing.assert_close(found[name], change.scale * change.matrix.to_dense(), rtol=1e-4, atol=1e-5)
