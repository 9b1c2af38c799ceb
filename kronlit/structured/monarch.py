"""Monarch matrices of low rank: Tan et al., MoRe, 2024, arXiv:2408.17383."""

import math

import torch
from torch import Tensor, nn

from kronlit.structured.base import StructuredLinear, compute_dtype


class Monarch(StructuredLinear):
    r"""Two block-diagonal matrices with a permutation after each, :math:`W = P_2 D_b P_1 D_a`.

    :math:`D_a` has k blocks of `(rank, in_features / k)` and :math:`D_b` k blocks of `(out_features / k, rank)`; Dao et
    al. (2022, arXiv:2204.00595) have square ones. :math:`P_1` reads the numbers between the two as a `(rank, k)` matrix
    and transposes it; :math:`P_2` does so with the outputs as `(k, out_features / k)`. So there are as many parameters
    as in a low-rank matrix of rank `rank`, and the rank of :math:`W` is up to k times that. :math:`W` is never formed.

    The blocks of :math:`D_a` start uniform within :math:`\pm 1 / \sqrt{in / k}` and :math:`D_b` as zero.

    Args:
        in_features: width of the input; a multiple of `num_blocks`.
        out_features: width of the output; a multiple of `num_blocks`.
        num_blocks: the number k of blocks in each of the two matrices.
        rank: the rank of each block.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> sum(p.numel() for p in Monarch(768, 768).parameters())
        6144
    """

    def __init__(self, in_features: int, out_features: int, num_blocks: int = 4, rank: int = 4) -> None:
        super().__init__(in_features, out_features)
        if num_blocks < 1 or in_features % num_blocks or out_features % num_blocks:
            raise ValueError(f"`num_blocks`={num_blocks} must divide the map's shape {(out_features, in_features)}.")
        if rank < 1:
            raise ValueError(f"`rank`={rank} must be at least 1.")
        self.num_blocks = num_blocks
        self.rank = rank
        self.a = nn.Parameter(torch.empty(num_blocks, rank, in_features // num_blocks))
        self.b = nn.Parameter(torch.empty(num_blocks, out_features // num_blocks, rank))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        dtype, k = compute_dtype(x), self.num_blocks
        rows = x.to(dtype).reshape(-1, k, self.in_features // k).transpose(0, 1)  # (k, t, in/k)
        h = torch.bmm(rows, self.a.to(dtype).mT).transpose(0, 1)  # (t, k, rank)
        h = h.reshape(-1, self.rank, k).permute(2, 0, 1)  # P₁; (k, t, rank)
        y = torch.bmm(h, self.b.to(dtype).mT).permute(1, 2, 0)  # P₂; (t, out/k, k)
        return y.reshape(*x.shape[:-1], self.out_features)

    def to_dense(self) -> Tensor:
        wide, tall = self.thin_factors()
        return tall @ wide

    def thin_factors(self) -> tuple[Tensor, Tensor]:
        first, last = torch.block_diag(*self.a), torch.block_diag(*self.b)
        first = first.unflatten(0, (self.rank, self.num_blocks)).transpose(0, 1).flatten(0, 1)  # P₁ D_a
        last = last.unflatten(0, (self.num_blocks, -1)).transpose(0, 1).flatten(0, 1)  # P₂ D_b
        return first, last

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.a.shape[-1])
        nn.init.uniform_(self.a, -bound, bound)
        nn.init.zeros_(self.b)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_blocks={self.num_blocks}, rank={self.rank}"
