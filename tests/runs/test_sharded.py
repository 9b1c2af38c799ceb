"""Frozen weights in shards: which are, and that text is written from them as from whole ones."""

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from kronlit.methods import FullFineTuning, KronA
from kronlit.training.sharded import layers, shard_frozen


@pytest.fixture
def mesh():
    """Four processes, of which this is one and the others are not there."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield init_device_mesh("cpu", (4,))
    torch.distributed.destroy_process_group()


MODELS = [
    ("tiny_bert", AutoModelForSequenceClassification, 2, "BertLayer"),
    ("tiny_t5", AutoModelForSeq2SeqLM, 4, "T5Block"),
    ("tiny_gpt2", AutoModelForCausalLM, 2, "GPT2Block"),
]


@pytest.mark.parametrize(("plm", "auto_class", "count", "kind"), MODELS)
def test_frozen_weights_are_shared_out_by_layer_and_trained_ones_are_whole(mesh, request, plm, auto_class, count, kind):
    model = auto_class.from_pretrained(request.getfixturevalue(plm))
    KronA().apply(model)
    whole = {name: (parameter.shape, parameter.requires_grad) for name, parameter in model.named_parameters()}
    assert [type(layer).__name__ for layer in layers(model)] == [kind] * count
    shard_frozen(model, mesh)
    assert all(isinstance(module, FSDPModule) for module in [*layers(model), model])
    for name, parameter in model.named_parameters():
        assert (parameter.shape, parameter.requires_grad) == whole[name]
        assert isinstance(parameter, DTensor) == (not parameter.requires_grad)
        if isinstance(parameter, DTensor):
            assert parameter.to_local().shape[0] == -(-parameter.shape[0] // 4)


def test_without_frozen_weights_there_is_nothing_to_share_out(mesh, tiny_bert):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    FullFineTuning().apply(model)
    with pytest.raises(ValueError, match="here all are trained: use ddp"):
        shard_frozen(model, mesh)
    assert not any(isinstance(module, FSDPModule) for module in model.modules())


def test_layers_are_those_of_the_outermost_lists():
    inner = nn.ModuleList([nn.Linear(2, 2)])
    outer = nn.ModuleList([nn.Sequential(inner), nn.Linear(2, 2)])
    assert layers(nn.Sequential(nn.Linear(2, 2), outer)) == list(outer)
