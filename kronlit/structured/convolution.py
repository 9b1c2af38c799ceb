"""Circular and skew-circular convolutions by FFT, which are the products of circulant, Toeplitz and LDR matrices.

A circular convolution of length n multiplies polynomials modulo z^n - 1, a skew one modulo z^n + 1. Both are
elementwise products of spectra. A shorter input is padded with zeros.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kronlit.structured.base import FusedUpdate
from kronlit.structured.pieces import join_pieces, split_pieces

# These constants, and `dense_below` of each structure, were measured by benchmarks/structures.py: forward and
# backward in float32, on one thread of a shared AMD EPYC. They were not measured on a GPU, where they apply as well.

DENSE_TOKENS = 2
"""From this many tokens per unit of width, forming a chain's dense matrix pays."""


class Convolution(torch.autograd.Function):
    """`y = Hx`, where H is the leading block of the matrix with first column `h`. It saves only `x` and `h`."""

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
    r"""`y = Σ_k B_k A_k x`, two convolutions in a row. It saves only its three input tensors.

    `a`, `(r, n)`, has the first columns of the :math:`A_k`, which may be skew and of which `inner` rows are used.
    `b`, `(r, m)`, has the first columns of the :math:`B_k`, which are circulant.
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
    """`Σ_k B_k A_k x` in `dtype` (see `ConvolutionChain`), or one dense product for many narrow tokens.

    The dense product is faster if the width is below `dense_below` times the number of terms, and there are more than
    `DENSE_TOKENS` tokens per unit of width. The dense matrix is the chain applied to the identity. It is kept for the
    backward pass, and is smaller than `x`.
    """
    x = x.to(dtype)
    in_features = x.shape[-1]
    width = max(in_features, out_features)
    if width < dense_below * len(a) and x.numel() > DENSE_TOKENS * width * in_features:
        identity = torch.eye(in_features, dtype=a.dtype, device=x.device)
        return x @ ConvolutionChain.apply(identity, a, b, inner, out_features, skew).to(dtype)
    return ConvolutionChain.apply(x, a, b, inner, out_features, skew)


def spectrum(x: Tensor, n: int, skew: bool = False) -> Tensor:
    """The spectrum of the real `x`, padded with zeros to length `n`: one half, as the other is its conjugate.

    It is computed in float32 or float64, as there is no FFT in bfloat16. A skew spectrum is taken at odd multiples of
    half the base frequency. For even n, every other one of these is a complex FFT of length n/2. For odd n, flipping
    every other sign of `x` turns the skew convolution into a circular one.
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
    """The inverse of `spectrum`: the first `width` of the `n` numbers whose spectrum is `X`."""
    if not skew:
        return torch.fft.irfft(X, n=n)[..., :width]
    if n % 2:
        x = torch.fft.irfft(X, n=n)
        return (x * alternating(x))[..., :width]
    z = torch.fft.ifft(X)
    z = z * twist(z).conj()
    return torch.cat((z.real, -z.imag), -1)[..., :width]


def twist(x: Tensor) -> Tensor:
    """`exp(-πij/n)` for j below n/2 and even n; a real `x` is n wide, a complex one n/2."""
    half = x.shape[-1] if x.is_complex() else x.shape[-1] // 2
    real = x.real.dtype if x.is_complex() else x.dtype
    angle = torch.arange(half, dtype=real, device=x.device) * (-math.pi / (2 * half))
    return torch.polar(torch.ones_like(angle), angle)


def alternating(x: Tensor) -> Tensor:
    """1, -1, 1, … along the last dimension of `x`."""
    return 1 - 2 * (torch.arange(x.shape[-1], dtype=x.dtype, device=x.device) % 2)


def convolution_summand(h: Tensor, skew: bool) -> FusedUpdate:
    """How to add the leading block of the matrix with first column `h` to a dense matrix."""
    return FusedUpdate((h,), partial(add_convolution, skew=skew), partial(correlation, skew=skew))


def add_convolution(weight: Tensor, scale: float, h: Tensor, skew: bool) -> Tensor:
    """`weight + scale · H`."""
    rows, columns = weight.shape
    return torch.add(weight, leading_block(h, rows, columns, skew), alpha=scale)


def correlation(x: Tensor, dy: Tensor, h: Tensor, skew: bool) -> tuple[Tensor]:
    """The gradient of `h` from `dy`, the gradient of `y = Hx`."""
    n, dH = len(h), torch.zeros((), dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    for piece, dpiece in split_pieces(n, x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])):
        dH = dH + (spectrum(piece, n, skew).conj() * spectrum(dpiece, n, skew)).sum(0)
    return (signal(dH, n, n, skew).to(h.dtype),)


def leading_block(h: Tensor, rows: int, columns: int, skew: bool) -> Tensor:
    """The first `rows` and `columns` of the matrix with first column `h`."""
    above = h[len(h) - columns + 1 :]
    return toeplitz(torch.cat((-above if skew else above, h[:rows])), columns)


def toeplitz(diagonals: Tensor, columns: int) -> Tensor:
    """The matrix whose entry (i, j) is `diagonals[..., i - j + columns - 1]`. This is faster than indexing."""
    return diagonals.unfold(-1, columns, 1).flip(-1)


def fast_length(n: int) -> int:
    """The smallest number from `n` up without a prime factor above 5: such lengths have a fast FFT."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
