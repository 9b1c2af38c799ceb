"""What is placed beside or before a weight, and each recent structure, gets the same gradients from two processes."""

from functools import partial

import pytest
import torch
from torch import nn

from kronlit.adapters import Delta, Hadamard, Product, WeightDecomposed
from kronlit.structured import (
    BlockCirculant,
    BlockOrthogonal,
    GatedKroneckers,
    KhatriRao,
    KroneckerSum,
    LowRank,
    LowRankHadamard,
    Monarch,
    TensorCircuit,
)

KINDS = {
    "HiRA": partial(Hadamard, matrix=partial(LowRank, rank=3)),
    "DoRA": partial(WeightDecomposed, matrix=partial(LowRank, rank=3), scale=2.0),
    "OFT": partial(Product, matrix=partial(BlockOrthogonal, block_size=4)),
    "CDKA": partial(Delta, matrix=KroneckerSum),
    "MoKA": partial(Delta, matrix=GatedKroneckers),
    "C3A": partial(Delta, matrix=BlockCirculant),
    "MoRe": partial(Delta, matrix=Monarch),
    "KRAdapter": partial(Delta, matrix=KhatriRao),
    "ABBA": partial(Delta, matrix=partial(LowRankHadamard, rank1=2, rank2=3)),
    "QuanTA": partial(Delta, matrix=TensorCircuit),
}


class Beside(nn.Module):
    """All kinds beside each other, of one seed."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(kind(nn.Linear(8, 12).requires_grad_(False), 8, 12) for kind in KINDS.values())
        for layer in self.layers:
            for parameter in layer.added():
                nn.init.normal_(parameter, std=0.5)

    def forward(self, x):
        return torch.stack([layer(x) for layer in self.layers])


def gradients(model, x):
    model(x).square().mean().backward()
    return {name.removeprefix("module."): p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def half(rank, x, folder):
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    found = gradients(nn.parallel.DistributedDataParallel(Beside()), x.chunk(2)[rank])
    if rank == 0:
        torch.save(found, f"{folder}/gradients")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_the_gradients_of_two_processes_are_those_of_one(tmp_path):
    x = torch.randn(40, 8)
    torch.multiprocessing.spawn(half, (x, str(tmp_path)), nprocs=2)
    together = torch.load(tmp_path / "gradients")
    for name, gradient in gradients(Beside(), x).items():
        torch.testing.assert_close(together[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
