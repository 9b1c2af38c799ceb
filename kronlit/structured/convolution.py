"""Circular and skew-circular convolutions by FFT: the products of circulant, Toeplitz and LDR matrices.

A convolution of length n multiplies polynomials modulo z^n - 1, a skew one modulo z^n + 1. Either is an elementwise
product of spectra. Inputs that are shorter are taken as followed by zeros.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kronlit.structured.base import FusedUpdate

# Measured by benchmarks/fft_or_dense.py, as is `dense_below` of each structure: forward and backward in float32, one
# thread of an AMD EPYC that other jobs shared. On a GPU nothing was measured; there the same widths decide.

CACHED = 1 << 18
"""Numbers that are transformed at a time on a CPU: what lies between the transforms then stays in the cache."""

DENSE_TOKENS = 2
"""Tokens, over the width of a chain, from which on its dense matrix repays its forming."""


class Convolution(torch.autograd.Function):
    """`y = Hx`, for H the leading block of the matrix with first column `h`; only `x` and `h` are kept for backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, out_features: int, skew: bool) -> Tensor:
        ctx.save_for_backward(x, h)
        ctx.skew = skew
        n, tokens = len(h), x.reshape(-1, x.shape[-1])
        H = spectrum(h, n, skew)
        y = [
            signal(spectrum(piece, n, skew) * H, n, out_features, skew).to(x.dtype)
            for (piece,) in split_pieces(n, tokens)
        ]
        return join_pieces(y, x, out_features)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, h = ctx.saved_tensors
        skew, n, in_features = ctx.skew, len(h), x.shape[-1]
        H = spectrum(h, n, skew).conj()
        dH, dx = torch.zeros_like(H), []
        for piece, dpiece in split_pieces(n, x.reshape(-1, in_features), dy.reshape(-1, dy.shape[-1])):
            dY = spectrum(dpiece, n, skew)
            dH = dH + (spectrum(piece, n, skew).conj() * dY).sum(0)
            if ctx.needs_input_grad[0]:
                dx.append(signal(dY * H, n, in_features, skew).to(x.dtype))
        dh = signal(dH, n, n, skew).to(h.dtype)
        return join_pieces(dx, x, in_features) if ctx.needs_input_grad[0] else None, dh, None, None


class ConvolutionChain(torch.autograd.Function):
    r"""`y = Σ_k B_k A_k x`, of convolutions one after the other; only its three tensors are kept for backward.

    `a`, `(r, n)`, are the first columns of the :math:`A_k`, which are skew or not and of which `inner` rows are used;
    `b`, `(r, m)`, those of the :math:`B_k`, which are circulant.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, inner: int, out_features: int, skew: bool) -> Tensor:
        ctx.save_for_backward(x, a, b)
        ctx.inner, ctx.skew = inner, skew
        n, m = a.shape[-1], b.shape[-1]
        A, B = spectrum(a, n, skew), spectrum(b, m)
        y = []
        for (piece,) in split_pieces(max(n, m) * len(a), x.reshape(-1, x.shape[-1])):
            u = signal(spectrum(piece, n, skew).unsqueeze(-2) * A, n, inner, skew)  # (t, r, inner)
            y.append(signal((spectrum(u, m) * B).sum(-2), m, out_features).to(x.dtype))
        return join_pieces(y, x, out_features)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None, None]:
        x, a, b = ctx.saved_tensors
        skew, inner, n, m, in_features = ctx.skew, ctx.inner, a.shape[-1], b.shape[-1], x.shape[-1]
        A, B = spectrum(a, n, skew), spectrum(b, m)
        dA, dB, dx = torch.zeros_like(A), torch.zeros_like(B), []
        tokens = x.reshape(-1, in_features), dy.reshape(-1, dy.shape[-1])
        for piece, dpiece in split_pieces(max(n, m) * len(a), *tokens):
            X, dY = spectrum(piece, n, skew).unsqueeze(-2), spectrum(dpiece, m).unsqueeze(-2)
            U = spectrum(signal(X * A, n, inner, skew), m)
            dU = spectrum(signal(dY * B.conj(), m, inner), n, skew)  # (t, r, frequencies)
            dA = dA + (X.conj() * dU).sum(0)
            dB = dB + (U.conj() * dY).sum(0)
            if ctx.needs_input_grad[0]:
                dx.append(signal((dU * A.conj()).sum(-2), n, in_features, skew).to(x.dtype))
        da, db = signal(dA, n, n, skew).to(a.dtype), signal(dB, m, m).to(b.dtype)
        return join_pieces(dx, x, in_features) if ctx.needs_input_grad[0] else None, da, db, None, None, None


def apply_chain(
    x: Tensor, a: Tensor, b: Tensor, inner: int, out_features: int, skew: bool, dense_below: int, dtype: torch.dtype
) -> Tensor:
    """`Σ_k B_k A_k x` in `dtype`, see `ConvolutionChain`; of many tokens that are not wide, as one dense product.

    That is faster where the width is below `dense_below` for each of the sum's terms, and tokens outnumber it by
    `DENSE_TOKENS`. The dense matrix is what the chain makes of the identity, so it is kept, and smaller than `x`.
    """
    x = x.to(dtype)
    in_features = x.shape[-1]
    width = max(in_features, out_features)
    if width < dense_below * len(a) and x.numel() > DENSE_TOKENS * width * in_features:
        identity = torch.eye(in_features, dtype=a.dtype, device=x.device)
        return x @ ConvolutionChain.apply(identity, a, b, inner, out_features, skew).to(dtype)
    return ConvolutionChain.apply(x, a, b, inner, out_features, skew)


def spectrum(x: Tensor, n: int, skew: bool = False) -> Tensor:
    """The spectrum of `x`, which is real and zero from its end up to `n`; half of it, as the rest is conjugate.

    In float32, as there is no FFT in bfloat16, or in float64. A skew one is at the odd multiples of half a period:
    where n is even, every other of these is a complex FFT of n/2; where it is odd, changing every other sign in `x`
    makes the convolution a circular one.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if not skew:
        return torch.fft.rfft(x, n=n)
    x = F.pad(x, (0, n - x.shape[-1]))
    if n % 2:
        return torch.fft.rfft(x * alternating(x))
    first, second = x.chunk(2, -1)
    return torch.fft.fft(torch.complex(first, -second) * twist(x))


def signal(X: Tensor, n: int, width: int, skew: bool = False) -> Tensor:
    """The first `width` of `n` numbers that have the spectrum `X`."""
    if not skew:
        return torch.fft.irfft(X, n=n)[..., :width]
    if n % 2:
        x = torch.fft.irfft(X, n=n)
        return (x * alternating(x))[..., :width]
    z = torch.fft.ifft(X)
    z = z * twist(z).conj()
    return torch.cat((z.real, -z.imag), -1)[..., :width]


def twist(x: Tensor) -> Tensor:
    """`exp(-πij/n)` for j below n/2, where n is even and `x`, real, has it as its width, or, complex, half of it."""
    half = x.shape[-1] if x.is_complex() else x.shape[-1] // 2
    real = x.real.dtype if x.is_complex() else x.dtype
    angle = torch.arange(half, dtype=real, device=x.device) * (-math.pi / (2 * half))
    return torch.polar(torch.ones_like(angle), angle)


def alternating(x: Tensor) -> Tensor:
    """1, -1, 1, … along the last dimension of `x`."""
    return 1 - 2 * (torch.arange(x.shape[-1], dtype=x.dtype, device=x.device) % 2)


def split_pieces(width: int, *tokens: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """`tokens`, `(t, ...)` each, in runs of rows of which `width` numbers each are transformed."""
    if len(tokens[0]) == 0:
        return []
    if tokens[0].device.type != "cpu" or torch.compiler.is_compiling():
        return [tokens]
    rows = max(1, CACHED // width)
    return zip(*(each.split(rows) for each in tokens), strict=True)


def join_pieces(pieces: list[Tensor], x: Tensor, width: int) -> Tensor:
    """Results for runs of the rows of `x`, of which there may be none, in the shape of `x` but for its width."""
    return torch.cat([x.new_empty(0, width), *pieces]).reshape(*x.shape[:-1], width)


def convolution_summand(h: Tensor, skew: bool) -> FusedUpdate:
    """How the leading block of the matrix with first column `h` is added to a dense matrix."""
    return FusedUpdate((h,), partial(add_convolution, skew=skew), partial(correlation, skew=skew))


def add_convolution(weight: Tensor, scale: float, h: Tensor, skew: bool) -> Tensor:
    """`weight + scale · H`."""
    rows, columns = weight.shape
    return torch.add(weight, leading_block(h, rows, columns, skew), alpha=scale)


def correlation(x: Tensor, dy: Tensor, h: Tensor, skew: bool) -> tuple[Tensor]:
    """The gradient of `h`, given that of `y = Hx`."""
    n, dH = len(h), torch.zeros((), dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    for piece, dpiece in split_pieces(n, x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])):
        dH = dH + (spectrum(piece, n, skew).conj() * spectrum(dpiece, n, skew)).sum(0)
    return (signal(dH, n, n, skew).to(h.dtype),)


def leading_block(h: Tensor, rows: int, columns: int, skew: bool) -> Tensor:
    """The first `rows` and `columns` of the matrix with first column `h`."""
    above = h[len(h) - columns + 1 :]
    return toeplitz(torch.cat((-above if skew else above, h[:rows])), columns)


def toeplitz(diagonals: Tensor, columns: int) -> Tensor:
    """The matrix whose entry (i, j) is `diagonals[..., i - j + columns - 1]`, formed faster than by an index."""
    return diagonals.unfold(-1, columns, 1).flip(-1)


def fast_length(n: int) -> int:
    """The least number from `n` up that has no prime factor above 5, and so a fast FFT."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
