"""Matrices of low displacement rank: Sehanobish et al., SURM, 2024, arXiv:2406.17740."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.structured.base import StructuredLinear, compute_dtype, normal_then_zero_
from kronlit.structured.circulant import rows_and_columns
from kronlit.structured.convolution import ConvolutionChain, toeplitz


class LDR(StructuredLinear):
    r"""A sum of products of circulant and skew-circulant matrices, :math:`W = \sum_{i=1}^r Z_1(g_i) Z_{-1}(h_i)`.

    :math:`Z_1(g)` is the circulant and :math:`Z_{-1}(h)` the skew-circulant matrix with that first column, n the
    larger width: `2 * rank * n` parameters. :math:`Z_1 W - W Z_{-1}` has the rank r, if the matrices are square, for
    :math:`Z_f` the shift down by one with f on top of its last column. All Toeplitz matrices are among those of rank 2.
    A rectangular :math:`W` is the leading block of the square one. Between forward and backward only the input is kept.

    The :math:`h_i` start normal, the :math:`g_i` as zero.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        rank: the displacement rank r, the number of products, from 1 up.
        std: standard deviation of the normal initialisation.
        zero_start: start the circulant matrices as zero.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    dense_below = 256
    """Width under which one dense product is faster than the FFT: see `kronlit.structured.convolution`."""

    def __init__(
        self, in_features: int, out_features: int, rank: int = 1, std: float = 0.02, zero_start: bool = True
    ) -> None:
        super().__init__(in_features, out_features)
        n = max(in_features, out_features)
        if rank < 1:
            raise ValueError(f"`rank`={rank} must be at least 1.")
        self.rank = rank
        self.std = std
        self.zero_start = zero_start
        self.g = nn.Parameter(torch.empty(rank, n))
        self.h = nn.Parameter(torch.empty(rank, n))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        dtype, n = compute_dtype(x), self.g.shape[-1]
        if n < self.dense_below:
            return F.linear(x.to(dtype), self._formed(x.device.type).to(dtype))
        return ConvolutionChain.apply(x.to(dtype), self.h, self.g, n, self.out_features, True)

    def _formed(self, device: str) -> Tensor:
        n = self.g.shape[-1]
        circulant = toeplitz(torch.cat((self.g[:, 1:], self.g[:, : self.out_features]), -1), n)  # (r, out, n)
        skew = toeplitz(torch.cat((-self.h[:, n - self.in_features + 1 :], self.h), -1), self.in_features)  # (r, n, in)
        with torch.autocast(device, enabled=False):  # else it would be rounded twice
            return torch.einsum("rik,rkj->ij", circulant, skew)

    def to_dense(self) -> Tensor:
        n = self.g.shape[-1]
        i, j = rows_and_columns(n, n, self.g.device)
        shift, sign = (i - j) % n, torch.where(i < j, -1, 1)
        products = [g[shift] @ (sign * h[shift]) for g, h in zip(self.g, self.h, strict=True)]
        return torch.stack(products).sum(0)[: self.out_features, : self.in_features]

    def reset_parameters(self) -> None:
        normal_then_zero_(self.h, self.g, self.std, self.zero_start)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}"
