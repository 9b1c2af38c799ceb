"""Low-rank matrices: Hu et al., LoRA, 2021, arXiv:2106.09685, section 4.1."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.structured.base import StructuredLinear, compute_dtype


class LowRank(StructuredLinear):
    r"""The product of two thin matrices, :math:`W = BA`: `rank * (in_features + out_features)` parameters.

    :math:`A` is `(rank, in_features)`, Kaiming-uniform; :math:`B` is `(out_features, rank)` and zero, so the map
    starts as zero.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        rank: the rank of :math:`W`, from 1 to the smaller width.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    def __init__(self, in_features: int, out_features: int, rank: int = 8) -> None:
        super().__init__(in_features, out_features)
        if not 1 <= rank <= min(in_features, out_features):
            raise ValueError(
                f"`rank`={rank} must lie between 1 and {min(in_features, out_features)}, the smaller width."
            )
        self.rank = rank
        self.a = nn.Parameter(torch.empty(rank, in_features))
        self.b = nn.Parameter(torch.empty(out_features, rank))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x)
        return F.linear(F.linear(x.to(dtype), self.a.to(dtype)), self.b.to(dtype))

    def to_dense(self) -> Tensor:
        return self.b @ self.a

    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        nn.init.zeros_(self.b)
