"""What `kronlit.testing` lets through, and what it does not."""

import pytest
import torch
from test_structured import MATRICES
from torch import nn

from kronlit.structured import Circulant, Dense, Kronecker, LowRank, Mixture, StructuredLinear
from kronlit.structured.base import compute_dtype
from kronlit.testing import check_structure


@pytest.mark.parametrize("name", MATRICES)
def test_every_structure_of_the_package_passes(name):
    check_structure(MATRICES[name])  # docs/structures.md says which start as zero, and a test of that page holds it


def test_arguments_and_widths_are_handed_on():
    check_structure(Kronecker, 6, 6, a_shape=(2, 3), zero_start=True)
    check_structure(Mixture, expert=Kronecker, evaluation="mean")
    with pytest.raises(ValueError, match="`a_shape`"):
        check_structure(Kronecker, 6, 6, a_shape=(4, 4))


class Diagonal(StructuredLinear):
    """A diagonal matrix, cut to its shape, as one would write it by the contract's docstring."""

    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.d = nn.Parameter(torch.empty(min(in_features, out_features)))
        self.reset_parameters()

    def forward(self, x):
        dtype = compute_dtype(x)
        y = x.new_zeros((*x.shape[:-1], self.out_features), dtype=dtype)
        y[..., : len(self.d)] = x[..., : len(self.d)].to(dtype) * self.d.to(dtype)
        return y

    def to_dense(self):
        dense = self.d.new_zeros(self.out_features, self.in_features)
        dense[: len(self.d), : len(self.d)] = self.d.diag()
        return dense

    def reset_parameters(self):
        nn.init.zeros_(self.d)


def test_one_that_is_written_by_the_contract_passes():
    check_structure(Diagonal, zero_start=True)
    check_structure(Diagonal, 12, 8, zero_start=True)


class WrongProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, d):
        ctx.save_for_backward(x, d)
        return x * d

    @staticmethod
    def backward(ctx, dy):
        x, d = ctx.saved_tensors
        return dy * d, 1.01 * (dy * x).flatten(0, -2).sum(0)


def other(**methods):
    """A square diagonal matrix in which some methods are others."""
    return type("Broken", (Diagonal,), methods)


BROKEN = {
    "dense": (other(to_dense=lambda self: 1.001 * Diagonal.to_dense(self)), "`forward` is not multiplication by"),
    "transposed dense": (other(to_dense=lambda self: torch.ones(12, 8)), r"`to_dense` has the shape \(12, 8\)"),
    "gradient": (other(forward=lambda self, x: WrongProduct.apply(x, self.d.to(x.dtype))), "a gradient"),
    "no gradient": (other(forward=lambda self, x: x * self.d.detach().to(x.dtype)), "a gradient"),
    "leading dimensions": (
        other(forward=lambda self, x: Diagonal.forward(self, x).flatten(0, -2)),
        "`forward` fails on",
    ),
    "shape": (other(forward=lambda self, x: Diagonal.forward(self, x)[..., :-1]), r"`forward` makes \(7,\) of \(8,\)"),
    "dtype": (other(forward=lambda self, x: x * self.d), r"`forward` makes torch.float32 of torch.bfloat16"),
    "autocast": (other(forward=lambda self, x: x * self.d.to(x.dtype)), "`forward` makes torch.float32 under autocast"),
    "dense's dtype": (other(to_dense=lambda self: Diagonal.to_dense(self).double()), "`to_dense` of float32 .*float64"),
    "start": (other(reset_parameters=lambda self: nn.init.ones_(self.d)), "it does not start as zero"),
    "no start": (other(reset_parameters=lambda self: None), "(it does not start|d is not finite)"),
    "input": (other(forward=lambda self, x: Diagonal.forward(self, x.mul_(1.5)) / 1.5), "`forward` changes its input"),
    "sum": (other(added_to=lambda self, y, x, scale: y + self(x)), "`added_to` does not add"),
    "bias": (other(forward=lambda self, x: Diagonal.forward(self, x) + 1), "`forward` is not multiplication by"),
}


@pytest.mark.parametrize(("structure", "law"), BROKEN.values(), ids=BROKEN)
def test_one_that_breaks_a_law_fails_with_its_name(structure, law):
    with pytest.raises(AssertionError, match=f"Broken: {law}"):
        check_structure(structure, 8, 8, zero_start=True)


class SlantedSum(Circulant):
    """A circulant matrix that is added to a weight as another one."""

    def summand(self):
        whole = super().summand()
        return whole and whole._replace(added=lambda weight, scale, *rest: whole.added(weight, 2 * scale, *rest))


class SlantedPull(Circulant):
    """A circulant matrix whose gradient by the summand is another one."""

    def summand(self):
        whole = super().summand()
        return whole and whole._replace(pullback=lambda *rest: tuple(2 * part for part in whole.pullback(*rest)))


@pytest.mark.parametrize(
    ("structure", "law"), [(SlantedSum, r"`summand\(\).added`"), (SlantedPull, r"`summand\(\).pullback`")]
)
def test_the_sum_with_a_weight_is_checked_too(structure, law):
    with pytest.raises(AssertionError, match=law):
        check_structure(structure)


def test_what_is_no_structure_or_has_no_parameters_is_said():
    with pytest.raises(AssertionError, match="must be a subclass of"):
        check_structure(nn.Linear)
    with pytest.raises(AssertionError, match="does not start as zero"):
        check_structure(Dense, zero_start=True)
    with pytest.raises(AssertionError, match=r"`in_features`, `out_features` are \(8, 8\), not \(8, 12\)"):
        check_structure(lambda n, m: LowRank(n, n, 2))
