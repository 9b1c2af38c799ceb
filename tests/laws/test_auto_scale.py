"""The law of `scale: auto`: a first step of Adam moves the weight as far as that of PEFT's LoRA, r = 8, alpha = 16."""

import dataclasses
import math
from functools import partial
from typing import get_args

import peft
import pytest
import torch
from torch import nn
from transformers import AutoModel

import kronlit
from kronlit import SURM, KronA, KronAB, LoRA, Structured
from kronlit.adapters import Delta, ParallelAdapter, auto_scale, placements
from kronlit.adapters.branches import KroneckerBranches
from kronlit.exchange.peft.write import to_peft
from kronlit.methods.surm import Structure
from kronlit.structured import (
    LDR,
    PHM,
    Circulant,
    Dense,
    Kronecker,
    LowRank,
    SkewCirculant,
    StructuredLinear,
    SymmetricToeplitz,
    Toeplitz,
    ToeplitzProduct,
    first_step,
)


class Own(StructuredLinear):
    """A user's own matrix: constant along its rows, which start as 3."""

    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.rows = nn.Parameter(torch.empty(out_features, 1))
        self.factor = nn.Parameter(torch.empty(1, in_features))
        self.reset_parameters()

    def forward(self, x):
        return x @ self.to_dense().T

    def to_dense(self):
        return self.rows @ self.factor

    def reset_parameters(self):
        nn.init.constant_(self.rows, 3.0)
        nn.init.zeros_(self.factor)


MATRICES = {
    "Kronecker": Kronecker,
    "Kronecker of SURM": partial(Kronecker, init="surm"),
    "Kronecker, tall": partial(Kronecker, a_shape=(32, 2)),
    "Kronecker, both drawn": partial(Kronecker, zero_start=False),
    "LowRank 1": partial(LowRank, rank=1),
    "LowRank 16": partial(LowRank, rank=16),
    "LowRank, Glorot": partial(LowRank, rank=4, init="glorot"),
    "Circulant": Circulant,
    "Circulant, Hadamard": partial(Circulant, hadamard=True, std=1.0),
    "SkewCirculant": SkewCirculant,
    "Toeplitz": Toeplitz,
    "SymmetricToeplitz": SymmetricToeplitz,
    "ToeplitzProduct": ToeplitzProduct,
    "LDR": LDR,
    "LDR 3": partial(LDR, rank=3),
    "PHM": partial(PHM, phm_dim=4),
    "Dense": Dense,
    "one's own": Own,
}
LARGE = [(64, 128), (256, 64), (256, 256), (384, 1536), (768, 768), (1024, 256), (1024, 1024)]
SIZES = [(64, 64), (128, 64), *(pytest.param(*size, marks=pytest.mark.slow) for size in LARGE)]
LR = 1e-5


def mean_square_step(layer, trained, lr=LR):
    """Mean square of what a step of torch's Adam adds to the matrix that `layer` applies, over that of `lr`."""
    layer.double().eval()
    identity = torch.eye(layer.in_features, dtype=torch.float64)
    before = layer(identity).detach()
    optimizer = torch.optim.Adam(trained, lr=lr)
    (layer(identity) * torch.randn_like(before)).sum().backward()
    optimizer.step()
    return ((layer(identity).detach() - before) / lr).square().mean().item()


def of_lora(in_features, out_features):
    """The same for PEFT's LoRA."""
    model = nn.Sequential(nn.Linear(in_features, out_features))
    model = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, target_modules=["0"], lora_dropout=0.0))
    return mean_square_step(model.base_model.model[0], [p for p in model.parameters() if p.requires_grad])


def root_mean(values):
    return math.sqrt(sum(values) / len(values))


@pytest.mark.parametrize(("in_features", "out_features"), SIZES)
@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_the_first_step_is_that_of_lora(matrix, in_features, out_features):
    torch.manual_seed(1)
    draws = max(8, 2**20 // (in_features * out_features))
    moved = []
    for _ in range(draws):
        host = nn.Linear(in_features, out_features).requires_grad_(False)
        delta = Delta(host, in_features, out_features, matrix, "auto")
        moved.append(mean_square_step(delta, list(delta.added())))
    lora = root_mean([of_lora(in_features, out_features) for _ in range(max(8, draws))])
    assert root_mean(moved) == pytest.approx(lora, rel=0.05)


@pytest.mark.parametrize("branches", [1, 2])
def test_the_branches_of_krona_b_move_as_far_together(branches):
    moved, body = [], partial(KroneckerBranches, num_branches=branches, output_biases=1)
    for _ in range(24):
        host = nn.Linear(64, 64).requires_grad_(False)
        adapter = ParallelAdapter(host, 64, 64, body, "auto")
        moved.append(mean_square_step(adapter, [p for p in adapter.added() if p.ndim > 1]))
    assert root_mean(moved) == pytest.approx(root_mean([of_lora(64, 64) for _ in range(24)]), rel=0.05)


@pytest.mark.parametrize("rank", [1, 8, 32])
def test_lora_of_rank_8_has_the_alpha_that_is_the_rule(rank, request):
    model = AutoModel.from_pretrained(request.getfixturevalue("wide_bert"))
    kronlit.inject(model, LoRA(rank=rank, alpha="auto"))
    for _, placement in placements(model):
        assert placement.scale == pytest.approx(2 * math.sqrt(8 / rank), rel=0.05 if rank > 1 else 0.12)


METHODS = {
    "KronA": KronA(scale="auto"),
    "KronAB": KronAB(scale="auto"),
    "LoRA": LoRA(rank=2, alpha="auto"),
    "Structured": Structured(matrix=LDR, scale="auto"),
    **{structure: SURM(structure=structure, scale="auto") for structure in get_args(Structure)},
}
both = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@both
def test_random_numbers_are_neither_used_nor_moved(method, request):
    def injected(method, seed):
        first_step.cached_rms.cache_clear()
        model = AutoModel.from_pretrained(request.getfixturevalue("tiny_bert"))
        torch.manual_seed(seed)
        kronlit.inject(model, method)
        sums = [value.sum().item() for value in model.parameters() if value.requires_grad]
        return [placement.scale for _, placement in placements(model)], sums, torch.rand(1).item()

    fixed = dataclasses.replace(method, **{"alpha" if isinstance(method, LoRA) else "scale": 1.0})
    one, other = injected(method, 0), injected(method, 1)
    assert one[0] == other[0]
    assert one[1:] == injected(fixed, 0)[1:]
    assert one[1:] != other[1:]


@both
def test_the_number_in_a_file_counts(method, request, tmp_path, monkeypatch):
    def model():
        return AutoModel.from_pretrained(request.getfixturevalue("tiny_bert"))

    trained = kronlit.inject(model(), method)
    for p in trained.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.1)
    ids = torch.arange(2, 12).view(2, 5)
    expected = trained.eval()(ids).last_hidden_state
    kronlit.save(trained, tmp_path / "adapter")
    scales = [placement.scale for _, placement in placements(trained)]
    monkeypatch.setattr(auto_scale, "scale_like_lora", lambda *_: 123.0)  # a version that computes another
    loaded = kronlit.load(tmp_path / "adapter", model())
    assert [placement.scale for _, placement in placements(loaded)] == scales
    torch.testing.assert_close(loaded(ids).last_hidden_state, expected)
    if not isinstance(method, KronAB):
        kronlit.merge(loaded)
        torch.testing.assert_close(loaded(ids).last_hidden_state, expected, rtol=1e-4, atol=1e-5)


def test_peft_opens_it(request, tmp_path):
    path = request.getfixturevalue("tiny_bert")
    trained = kronlit.inject(AutoModel.from_pretrained(path), LoRA(rank=2, alpha="auto"))
    for p in trained.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.1)
    ids = torch.arange(2, 12).view(2, 5)
    (tmp_path / "peft").mkdir()
    to_peft(trained, str(path)).write(tmp_path / "peft", {})
    theirs = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(path), tmp_path / "peft").eval()
    torch.testing.assert_close(theirs(ids).last_hidden_state, trained.eval()(ids).last_hidden_state)


def test_a_matrix_that_does_not_move_is_named():
    class Still(Own):
        def reset_parameters(self):
            nn.init.zeros_(self.rows)
            nn.init.zeros_(self.factor)

    with pytest.raises(ValueError, match=r"`scale`='auto' needs a matrix that Adam's first step moves"):
        Delta(nn.Linear(8, 8), 8, 8, Still, "auto")
