"""Circulant, Toeplitz and LDR matrices against SciPy, PEFT and their laws of displacement, and how they are applied."""

from functools import partial

import numpy as np
import peft
import pytest
import scipy.linalg
import torch
from test_structured import random_
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import kronlit.structured.pieces as pieces
from kronlit.adapters import Delta
from kronlit.structured import LDR, Circulant, SkewCirculant, SymmetricToeplitz, Toeplitz, ToeplitzProduct
from kronlit.structured.convolution import fast_length


def skew_circulant(c):
    """Below the diagonal a circulant matrix, above it its negative."""
    return scipy.linalg.toeplitz(c, np.concatenate((c[:1], -c[:0:-1])))


def numbers(parameter):
    return parameter.detach().numpy()


# What each matrix is, by SciPy; a rectangular one is the leading block of a square one
SCIPY = {
    "circulant": (Circulant, lambda w: scipy.linalg.circulant(numbers(w.a))),
    "circulant, Hadamard": (
        partial(Circulant, hadamard=True),
        lambda w: scipy.linalg.circulant(numbers(w.a) * numbers(w.b)),
    ),
    "skew-circulant": (SkewCirculant, lambda w: skew_circulant(numbers(w.column))),
    "Toeplitz": (
        Toeplitz,
        lambda w: scipy.linalg.toeplitz(numbers(w.column), np.concatenate((numbers(w.column)[:1], numbers(w.row)))),
    ),
    "symmetric Toeplitz": (SymmetricToeplitz, lambda w: scipy.linalg.toeplitz(numbers(w.a))),
    "symmetric Toeplitz, Hadamard": (
        partial(SymmetricToeplitz, hadamard=True),
        lambda w: scipy.linalg.toeplitz(numbers(w.a) * numbers(w.b)),
    ),
    "product": (
        ToeplitzProduct,
        lambda w: scipy.linalg.toeplitz(numbers(w.b)) @ scipy.linalg.toeplitz(numbers(w.a)),
    ),
    "LDR": (
        partial(LDR, rank=3),
        lambda w: sum(
            scipy.linalg.circulant(g) @ skew_circulant(h) for g, h in zip(numbers(w.g), numbers(w.h), strict=True)
        ),
    ),
}
MATRICES = {name: matrix for name, (matrix, _) in SCIPY.items()}
every = pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)


@pytest.mark.parametrize(("matrix", "expected"), SCIPY.values(), ids=SCIPY)
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (8, 8), (7, 7), (15, 15), (5, 8), (8, 5), (1, 6), (6, 1), (11, 4)])
@pytest.mark.parametrize("fft", [True, False], ids=["FFT", "dense"])
def test_each_is_what_scipy_makes_of_its_parameters(matrix, expected, shape, fft):
    rows, columns = shape
    w = random_(matrix(columns, rows)).double()
    w.dense_below = 0 if fft else 100
    dense = torch.from_numpy(np.ascontiguousarray(expected(w)[:rows, :columns]))
    x = torch.randn(40, columns, dtype=torch.float64)  # more than twice the width
    torch.testing.assert_close(w.to_dense(), dense)
    torch.testing.assert_close(w(x), x @ dense.T)


def test_circulants_are_those_of_the_definition_written_out():
    w, s = Circulant(3, 3), SkewCirculant(3, 3)
    w.a.data, s.column.data = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])
    assert w.to_dense().tolist() == [[1, 3, 2], [2, 1, 3], [3, 2, 1]]
    assert s.to_dense().tolist() == [[1, -3, -2], [2, 1, -3], [3, 2, 1]]


@pytest.mark.parametrize("n", [7, 12])
@pytest.mark.parametrize(
    ("matrix", "rank"),
    # By theory: one product each; Toeplitz two, as is its inverse; of a product, what its factors have in all
    [
        (Circulant, 1),
        (SkewCirculant, 1),
        (Toeplitz, 2),
        (SymmetricToeplitz, 2),
        (ToeplitzProduct, 4),
        *((partial(LDR, rank=rank), rank) for rank in (1, 2, 3)),
    ],
    ids=str,
)
def test_the_displacement_rank_is_low_where_the_rank_is_full(matrix, rank, n):
    w = random_(matrix(n, n)).double().to_dense().detach()
    shift = torch.eye(n, dtype=torch.float64).roll(1, 0)  # Z_1: what leaves at the bottom comes back on top
    negated = shift.clone()
    negated[0, -1] = -1  # Z_-1
    assert torch.linalg.matrix_rank(shift @ w - w @ negated) == rank
    assert torch.linalg.matrix_rank(w) == n
    if matrix is Toeplitz:
        inverse = w.inverse()  # it changes sides: Z_-1 V - V Z_1
        assert torch.linalg.matrix_rank(negated @ inverse - inverse @ shift, rtol=1e-9) == 2


def test_a_circulant_delta_is_peft_c3a():
    host = nn.Linear(12, 12)
    config = peft.C3AConfig(block_size=12, target_modules=["0"])
    theirs = peft.get_peft_model(nn.Sequential(host), config)
    kernel = theirs.base_model.model[0].c3a_kernel["default"]
    nn.init.normal_(kernel)
    ours = Delta(nn.Linear(12, 12), 12, 12, Circulant, scale=1 / 12)  # C3A divides by the width
    ours.host.load_state_dict(theirs.base_model.model[0].base_layer.state_dict())
    ours.matrix.a.data = kernel[0, 0].detach().flip(0).roll(1)  # C3A's kernel is the first row
    ours.matrix.dense_below = 0
    x = torch.randn(5, 12)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.merge()(x), theirs(x))


@every
def test_no_activation_is_kept_but_the_input(matrix):
    def kept(tokens):
        sizes, x = [], torch.randn(tokens, 300, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            w(x)
        return sum(sizes)

    w = random_(matrix(300, 300))
    w.dense_below = 0
    assert kept(70) - kept(10) == 60 * 300


@every
def test_under_autocast_nothing_is_rounded_but_input_and_result(matrix):
    w, x = random_(matrix(300, 310)), torch.randn(20, 300)
    with torch.autocast("cpu", torch.bfloat16):
        y = w(x)
    exact = x.bfloat16().double() @ w.double().to_dense().T
    torch.testing.assert_close(y.double(), exact, rtol=2**-8, atol=1e-5 * exact.abs().max().item())


def flops(w, x):
    """Multiplications of `w(x)`; an FFT counts for none."""
    with FlopCounterMode(display=False) as counter:
        w(x)
    return counter.get_total_flops()


@every
def test_the_dense_product_serves_below_the_measured_width(matrix):
    below = matrix(2, 2).dense_below * getattr(matrix(2, 2), "rank", 1)
    for width, dense in ((below - 1, 2 * (below - 1) ** 2), (below, 0)):
        assert flops(matrix(width, width), torch.randn(2 * width + 1, width)) == dense * (2 * width + 1)


@pytest.mark.parametrize("name", ["product", "LDR"])
def test_a_chain_is_made_dense_for_many_tokens_alone(name):
    w = MATRICES[name](16, 20)
    assert flops(w, torch.randn(2, 20, 16)) == 0
    assert flops(w, torch.randn(41, 16)) == 2 * 41 * 16 * 20


@every
def test_the_dense_product_has_the_gradients_of_the_fft(matrix):
    w, x = random_(matrix(7, 9)).double(), torch.randn(5, 6, 7, dtype=torch.float64, requires_grad=True)
    w.dense_below = 0
    results = []
    for below in (0, 100):
        w.dense_below = below
        assert (flops(w, x) > 0) == (below > 0)
        results.append(torch.autograd.grad(w(x).square().sum(), (x, *w.parameters())))
    torch.testing.assert_close(results[1], results[0])


@every
def test_the_dense_product_runs_in_bfloat16_under_autocast_and_learns_in_float32(matrix):
    w, x = random_(matrix(7, 9)), torch.randn(30, 7)
    w.dense_below = 100
    with torch.autocast("cpu", torch.bfloat16):
        y = w(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad.dtype == torch.float32 for p in w.parameters())
    expected = x @ w.to_dense().T
    torch.testing.assert_close(y.float(), expected, rtol=0.02, atol=0.02 * expected.abs().max().item())


@every
def test_runs_of_tokens_give_what_all_at_once_give(matrix, monkeypatch):
    w, x = random_(matrix(7, 9)).double(), torch.randn(2, 5, 7, dtype=torch.float64, requires_grad=True)
    w.dense_below = 0
    results = []
    for cached in (1, 60, 10**6):
        monkeypatch.setattr(pieces, "CACHED", cached)
        y = w(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), (x, *w.parameters()))))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0])


@every
@pytest.mark.parametrize("fft", [True, pytest.param(False, marks=pytest.mark.matrix)], ids=["FFT", "dense"])
def test_it_compiles_into_one_graph(matrix, fft):
    w, x = random_(matrix(9, 9)), torch.randn(4, 5, 9, requires_grad=True)
    w.dense_below = 0 if fft else 100
    expected = w(x)
    compiled = torch.compile(w, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-4)
    ours, theirs = (torch.autograd.grad(y.square().sum(), (x, *w.parameters())) for y in (compiled(x), expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * max(g.abs().max().item() for g in theirs))


@every
def test_it_runs_without_values(matrix):
    with FakeTensorMode():
        w, x = matrix(300, 310), torch.randn(2, 5, 300, requires_grad=True)
        w.dense_below = 0
        w(x).sum().backward()
        assert x.grad.shape == x.shape
        assert all(p.grad.shape == p.shape for p in w.parameters())


@pytest.mark.parametrize("n", [1, 7, 10, 11, 1535, 2047, 4001, 8191])
def test_the_length_of_an_fft_is_the_next_that_scipy_calls_fast(n):
    best = min(length for length in range(n, 2 * n + 1) if scipy.fft.next_fast_len(length, real=True) == length)
    assert fast_length(n) == best
