"""Matrices of low displacement rank: Sehanobish et al., SURM, 2024, arXiv:2406.17740."""

import torch
from torch import Tensor, nn

from kronlit.structured.base import StructuredLinear, compute_dtype, normal_then_zero_
from kronlit.structured.circulant import rows_and_columns
from kronlit.structured.convolution import apply_chain


class LDR(StructuredLinear):
    r"""A sum of products of circulant and skew-circulant matrices, :math:`W = \sum_{i=1}^r Z_1(g_i) Z_{-1}(h_i)`.

    :math:`Z_1(g)` is the circulant and :math:`Z_{-1}(h)` the skew-circulant matrix with that first column. There are
    `2 * rank * n` parameters, where n is the larger width. For square matrices, :math:`Z_1 W - W Z_{-1}` has rank r,
    where :math:`Z_f` shifts down by one and has f on top of its last column. Rank 2 includes all Toeplitz matrices. A
    rectangular :math:`W` is the leading block of the square one. Only the input is kept for the backward pass.

    The :math:`h_i` start as normal numbers, the :math:`g_i` as zero.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        rank: the displacement rank r, which is the number of products; at least 1.
        std: standard deviation of the normal initialisation.
        zero_start: start the circulant matrices as zero.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> matrix = LDR(2, 2)
        >>> matrix.load_state_dict({"g": torch.tensor([[0.0, 1.0]]), "h": torch.tensor([[1.0, 2.0]])})
        <All keys matched successfully>
        >>> matrix.to_dense().tolist()  # [[0, 1], [1, 0]] @ [[1, -2], [2, 1]]
        [[2.0, 1.0], [1.0, -2.0]]
    """

    dense_below = 192
    """Below this width per unit of rank, a dense product is faster; see `kronlit.structured.convolution`."""

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
        n = self.g.shape[-1]
        return apply_chain(x, self.h, self.g, n, self.out_features, True, self.dense_below, compute_dtype(x))

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
