"""Block-circulant matrices: Chen et al., C3A, 2024, arXiv:2407.19342."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kronlit.structured.base import FusedUpdate, StructuredLinear, compute_dtype
from kronlit.structured.pieces import join_pieces, split_pieces


class BlockCirculant(StructuredLinear):
    r"""A matrix of circulant blocks of one size b, divided by the width of the input, as in C3A.

    The kernel is `(out_features / b, in_features / b, b)`. Its vector :math:`c` at (m, n) is the first row of block
    (m, n), and each row is the one above moved right by one: :math:`W_{ij} = c_{(j-i) \bmod b} / in`. There are
    `in_features * out_features / b` parameters. The product is by FFT of the blocks, and only the input is kept for the
    backward pass.

    The kernel starts Xavier-uniform by the two widths, so the map starts small, not as zero.

    Args:
        in_features: width of the input; a multiple of `block_size`.
        out_features: width of the output; a multiple of `block_size`.
        block_size: the size b; by default the largest that divides both widths.
        zero_start: start the kernel as zero.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> BlockCirculant(768, 768).kernel.shape, BlockCirculant(768, 768, block_size=128).kernel.shape
        (torch.Size([1, 1, 768]), torch.Size([6, 6, 128]))
    """

    dense_below = 160
    """Below this width one dense product is faster than the FFT, as in `Circulant`."""

    def __init__(
        self, in_features: int, out_features: int, block_size: int | None = None, zero_start: bool = False
    ) -> None:
        super().__init__(in_features, out_features)
        largest = math.gcd(in_features, out_features)
        b = largest if block_size is None else block_size
        if b < 1 or largest % b:
            raise ValueError(
                f"`block_size`={b} must divide both widths, {out_features} and {in_features}, as {largest} does."
            )
        self.block_size = b
        self.zero_start = zero_start
        self.kernel = nn.Parameter(torch.empty(out_features // b, in_features // b, b))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x)
        if max(self.in_features, self.out_features) < self.dense_below:
            return F.linear(x.to(dtype), form(self.kernel).to(dtype))
        return BlockConvolution.apply(x.to(dtype), self.kernel)

    def to_dense(self) -> Tensor:
        index = torch.arange(self.block_size, device=self.kernel.device)
        blocks = self.kernel[..., (index - index.unsqueeze(-1)) % self.block_size]  # (m, n, b, b)
        return blocks.transpose(1, 2).reshape(self.out_features, self.in_features) / self.in_features

    def summand(self) -> FusedUpdate:
        return FusedUpdate((self.kernel,), add_blocks, kernel_gradient)

    def reset_parameters(self) -> None:
        bound = 0.0 if self.zero_start else math.sqrt(6 / (self.in_features + self.out_features))
        nn.init.uniform_(self.kernel, -bound, bound)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, block_size={self.block_size}"


class BlockConvolution(torch.autograd.Function):
    """`y = Wx` for the block-circulant W of a kernel. It saves only `x` and the kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        m, n, b = kernel.shape
        C = spectrum(kernel, b, precision(x, kernel)).conj() / (n * b)
        y = [signal(contract(X, C), b, x.dtype) for (X,) in spectra(kernel, x)]
        return join_pieces(y, x, m * b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor]:
        x, kernel = ctx.saved_tensors
        _, n, b = kernel.shape
        C = spectrum(kernel, b, precision(x, kernel)).transpose(0, 1) / (n * b)
        dC, dx = torch.zeros_like(C.transpose(0, 1)), []
        for X, dY in spectra(kernel, x, dy):
            dC = dC + correlate(dY, X)
            if ctx.needs_input_grad[0]:
                dx.append(signal(contract(dY, C), b, x.dtype))
        return join_pieces(dx, x, n * b) if ctx.needs_input_grad[0] else None, kernel_of(dC, kernel)


def precision(x: Tensor, kernel: Tensor) -> torch.dtype:
    """The dtype to compute in: float32 at least, as there is no FFT in bfloat16."""
    return torch.promote_types(torch.promote_types(x.dtype, kernel.dtype), torch.float32)


def spectra(kernel: Tensor, *tokens: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """The spectra of the blocks of `tokens`, `(t, blocks, b // 2 + 1)` each, by pieces that fit the cache."""
    b, dtype = kernel.shape[-1], precision(tokens[0], kernel)
    rows = [each.reshape(-1, each.shape[-1]) for each in tokens]
    for pieces in split_pieces(max(each.shape[-1] for each in rows), *rows):
        yield tuple(spectrum(piece.unflatten(-1, (-1, b)), b, dtype) for piece in pieces)


def spectrum(x: Tensor, b: int, dtype: torch.dtype) -> Tensor:
    """One half of the spectrum of the real `x`: the other is its conjugate."""
    return torch.fft.rfft(x.to(dtype), n=b)


def signal(Y: Tensor, b: int, dtype: torch.dtype) -> Tensor:
    """The tokens, `(t, blocks * b)`, whose blocks have these spectra."""
    return torch.fft.irfft(Y, n=b).flatten(1).to(dtype)


def kernel_of(dC: Tensor, kernel: Tensor) -> Tensor:
    """The gradient of the kernel, whose spectrum is `dC` times the width of the input."""
    _, n, b = kernel.shape
    return (torch.fft.irfft(dC, n=b) / (n * b)).to(kernel.dtype)


def contract(X: Tensor, C: Tensor) -> Tensor:
    """The sum over n of `C_mn X_tn`, frequency by frequency: `(t, n, f)` to `(t, m, f)`."""
    if 1 in C.shape[:2]:  # one row or column of blocks: no product of matrices
        return (X.unsqueeze(1) * C).sum(2) if C.shape[1] > 1 else X * C[:, 0]
    return torch.einsum("tnf,mnf->tmf", X, C)


def correlate(dY: Tensor, X: Tensor) -> Tensor:
    """The sum over tokens of `conj(dY_tm) X_tn`, frequency by frequency, `(m, n, f)`."""
    if 1 in (dY.shape[1], X.shape[1]):
        return (dY.conj().unsqueeze(2) * X.unsqueeze(1)).sum(0)
    return torch.einsum("tmf,tnf->mnf", dY.conj(), X)


def form(kernel: Tensor) -> Tensor:
    """The matrix of a kernel. This is faster than indexing."""
    m, n, b = kernel.shape
    rows = torch.cat((kernel, kernel), -1).unfold(-1, b, 1)[..., 1:, :].flip(-2)  # (m, n, b, b)
    return rows.transpose(1, 2).reshape(m * b, n * b) / (n * b)


def add_blocks(weight: Tensor, scale: float, kernel: Tensor) -> Tensor:
    """`weight + scale · W`."""
    return torch.add(weight, form(kernel), alpha=scale)


def kernel_gradient(x: Tensor, dy: Tensor, kernel: Tensor) -> tuple[Tensor]:
    """The gradient of the kernel from `dy`, the gradient of `y = Wx`."""
    dC = torch.zeros((), dtype=precision(x, kernel), device=x.device)
    for X, dY in spectra(kernel, x, dy):
        dC = dC + correlate(dY, X)
    return (kernel_of(dC, kernel),)
