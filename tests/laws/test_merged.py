"""A structured matrix applied as one with the weight that it changes: nothing but the speed may differ."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kronlit.adapters import Delta
from kronlit.adapters.merged import MergedProduct
from kronlit.structured import Circulant, Kronecker, LowRank, SkewCirculant, SymmetricToeplitz, Toeplitz, pieces
from kronlit.structured.base import FusedUpdate
from kronlit.structured.kronecker import KroneckerProduct, add_kronecker, factor_gradients

SHAPES = [((4, 2), (3, 6)), ((2, 6), (6, 2)), ((1, 12), (12, 1)), ((12, 1), (1, 12))]  # of A, of B; both orders


def kronecker(a, b):
    return FusedUpdate((a, b), add_kronecker, factor_gradients)


def merged_product(x, weight, bias, scale, summand):
    return MergedProduct.apply(x, weight, bias, scale, summand, *summand.generators)


def drawn(a_shape, b_shape, tokens=(2, 5)):
    generator = torch.Generator().manual_seed(0)
    rows, columns = a_shape[0] * b_shape[0], a_shape[1] * b_shape[1]
    shapes = (*tokens, columns), (rows, columns), (rows,), a_shape, b_shape
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("tokens", [(2, 5), (7,), (2, 1, 3)])
def test_it_is_the_sum_of_both_matrices(shapes, tokens):
    tensors = [tensor.requires_grad_() for tensor in drawn(*shapes, tokens)]
    x, weight, bias, a, b = tensors
    weight.requires_grad_(False)
    expected = F.linear(x, weight + 3.0 * torch.kron(a, b), bias)  # torch's own autograd through the whole matrix
    found = merged_product(x, weight, bias, 3.0, kronecker(a, b))
    torch.testing.assert_close(found, expected)
    dy = torch.randn_like(expected)
    oracle = torch.autograd.grad(expected, [x, bias, a, b], dy)
    torch.testing.assert_close(torch.autograd.grad(found, [x, bias, a, b], dy), oracle)


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("shapes", SHAPES)
def test_gradients_of_kronecker_factors_are_sums_over_pieces_of_tokens(shapes, rows, monkeypatch):
    x, _, _, a, b = (tensor.requires_grad_() for tensor in drawn(*shapes, (7,)))
    dy = torch.randn(7, shapes[0][0] * shapes[1][0], dtype=torch.float64)
    oracle = torch.autograd.grad(F.linear(x, torch.kron(a, b)), (x, a, b), dy)
    monkeypatch.setattr(pieces, "CACHED", rows * (x.shape[-1] + dy.shape[-1]))
    found = torch.autograd.grad(KroneckerProduct.apply(x, a, b), (x, a, b), dy)
    torch.testing.assert_close(found, oracle)
    torch.testing.assert_close(factor_gradients(x.detach(), dy, a.detach(), b.detach()), oracle[1:])


@pytest.mark.parametrize("trained", ["a", "b", "bias", "x"])
def test_each_gradient_comes_alone(trained):
    x, weight, bias, a, b = drawn((4, 2), (3, 6))
    one = {"x": x, "bias": bias, "a": a, "b": b}[trained].requires_grad_()
    dy = torch.randn(2, 5, 12, dtype=torch.float64)
    (expected,) = torch.autograd.grad(F.linear(x, weight + 0.5 * torch.kron(a, b), bias), [one], dy)
    (found,) = torch.autograd.grad(merged_product(x, weight, bias, 0.5, kronecker(a, b)), [one], dy)
    torch.testing.assert_close(found, expected)


def test_only_the_input_is_kept():
    x, weight, bias, a, b = drawn((4, 2), (3, 6))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        merged_product(x, weight, bias, 1.0, kronecker(a.requires_grad_(), b.requires_grad_()))
    own = {t.data_ptr() for t in (x, weight, a, b)}
    assert {t.data_ptr() for t in kept} == own


@pytest.mark.parametrize("matrix", [Circulant, partial(Circulant, hadamard=True), SkewCirculant, Toeplitz])
@pytest.mark.parametrize("shape", [(7, 7), (8, 8), (8, 5), (5, 8), (1, 4), (4, 1)])
def test_a_matrix_constant_along_its_diagonals_is_added_too(matrix, shape):
    check_against_autograd(matrix(*shape).double(), *shape)


@pytest.mark.parametrize("hadamard", [False, True])
@pytest.mark.parametrize("shape", [(7, 7), (8, 5), (5, 8)])
def test_a_symmetric_one_is_added_too(shape, hadamard):
    check_against_autograd(SymmetricToeplitz(*shape, hadamard=hadamard).double(), *shape)


def check_against_autograd(matrix, in_features, out_features):
    for parameter in matrix.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(3, 2, in_features, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(out_features, in_features).double(), torch.randn(out_features).double()
    expected = F.linear(x, weight + 0.5 * matrix.to_dense(), bias)  # torch's own autograd, through the definition
    found = merged_product(x, weight, bias, 0.5, matrix.summand())
    torch.testing.assert_close(found, expected)
    dy = torch.randn_like(expected)
    inputs = [x, *matrix.parameters()]
    oracle = torch.autograd.grad(expected, inputs, dy, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(found, inputs, dy), oracle)


def placed(matrix=Kronecker, dtype=torch.float32, **kwargs):
    host = nn.Linear(24, 12, dtype=dtype).requires_grad_(False)
    delta = Delta(host, 24, 12, matrix, **kwargs)
    for parameter in delta.matrix.parameters():
        nn.init.normal_(parameter)
    return delta


def node(y):
    return type(y.grad_fn).__name__


def test_a_delta_takes_it_for_many_tokens_and_changes_nothing():
    delta = placed(scale=0.5)
    x = torch.randn(3, 8, 24)
    y = delta(x)
    assert node(y) == "MergedProductBackward"
    torch.testing.assert_close(y, delta.host(x) + 0.5 * F.linear(x, delta.matrix.to_dense()))
    assert node(delta(x[:1])) != "MergedProductBackward"  # 8 tokens do not repay 12 x 24 numbers


def test_a_delta_does_not_where_it_would_be_another_number():
    x = torch.randn(3, 8, 24)
    plain = {
        "dropout": placed(dropout=0.5),
        "a trained scale": placed(partial(Kronecker, zero_start=False), scale="trained"),
        "another structure": placed(
            LowRank,
        ),
        "a trained weight": placed(),
        "bfloat16": placed(dtype=torch.bfloat16),
    }
    plain["a trained weight"].host.weight.requires_grad_(True)
    for name, delta in plain.items():
        y = delta(x.to(delta.host.weight.dtype))
        assert node(y) != "MergedProductBackward", name
    assert node(plain["dropout"].eval()(x)) == "MergedProductBackward"
    with torch.autocast("cpu", torch.bfloat16):
        assert node(placed()(x)) != "MergedProductBackward"


def test_two_steps_of_training_are_those_of_the_plain_way():
    merged = placed()
    plain = copy.deepcopy(merged)
    x, goal = torch.randn(30, 24), torch.randn(30, 12)
    for delta, batches in ((merged, [x]), (plain, x.split(5))):  # the plain way is that of few tokens
        optimizer = torch.optim.SGD(delta.matrix.parameters(), lr=0.1)
        for _ in range(2):
            F.mse_loss(torch.cat([delta(piece) for piece in batches]), goal).backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(merged.matrix.to_dense(), plain.matrix.to_dense(), rtol=1e-4, atol=1e-5)
