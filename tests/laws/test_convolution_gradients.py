"""Gradients of convolutions that are transformed in runs of tokens, a shorter last one too, against dense matrices."""

import pytest
import torch

from kronlit.structured import pieces
from kronlit.structured.convolution import Convolution, ConvolutionChain, correlation


def dense(h, rows, columns, skew):
    """The matrix of the definition: entry (i, j) is `h[i - j]`, from above the diagonal on the next turn of it."""
    n = len(h)
    entries = [(-h if skew and i < j else h)[(i - j) % n] for i in range(rows) for j in range(columns)]
    return torch.stack(entries).view(rows, columns)


def numbers(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(params=[1, 2, 3, 7], ids=lambda rows: f"{rows} at once")
def at_once(request, monkeypatch):
    """How many of seven tokens are transformed at a time."""
    return lambda width: monkeypatch.setattr(pieces, "CACHED", request.param * width)


@pytest.mark.parametrize("skew", [False, True])
@pytest.mark.parametrize("n", [5, 6])
def test_gradients_of_one_convolution_are_sums_over_all_tokens(n, skew, at_once):
    at_once(n)
    x, h, dy = numbers(7, 4), numbers(n), torch.randn(7, 3, dtype=torch.float64)
    oracle = torch.autograd.grad(x @ dense(h, 3, 4, skew).T, (x, h), dy)
    torch.testing.assert_close(torch.autograd.grad(Convolution.apply(x, h, 3, skew), (x, h), dy), oracle)
    (dh,) = correlation(x.detach(), dy, h.detach(), skew)
    torch.testing.assert_close(dh, oracle[1])


@pytest.mark.parametrize("skew", [False, True])
def test_gradients_of_a_chain_are_sums_over_all_tokens(skew, at_once):
    r, n, m, inner = 2, 6, 5, 5
    at_once(r * n)
    x, a, b, dy = numbers(7, 4), numbers(r, n), numbers(r, m), torch.randn(7, 3, dtype=torch.float64)
    both = [dense(b[k], 3, inner, False) @ dense(a[k], inner, 4, skew) for k in range(r)]
    oracle = torch.autograd.grad(x @ torch.stack(both).sum(0).T, (x, a, b), dy)
    found = torch.autograd.grad(ConvolutionChain.apply(x, a, b, inner, 3, skew), (x, a, b), dy)
    torch.testing.assert_close(found, oracle)
