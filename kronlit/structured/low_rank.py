"""Low-rank matrices: Hu et al., LoRA, 2021, arXiv:2106.09685, section 4.1."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.structured.base import StructuredLinear, compute_dtype, glorot_uniform_


class LowRank(StructuredLinear):
    r"""The product of two thin matrices, :math:`W = BA`: `rank * (in_features + out_features)` parameters.

    :math:`A` is `(rank, in_features)` and :math:`B` is `(out_features, rank)`. By default :math:`A` starts
    Kaiming-uniform and :math:`B` as zero, so the map starts as zero. With `init="glorot"` both are Glorot-uniform with
    gain :math:`\sqrt 2`, as in the low-rank adapter of Mahabadi et al. (arXiv:2106.04647). Their code multiplies the
    two elementwise, which equals the product only for rank 1. With `init="normal"` both are normal with a standard
    deviation of 0.02, as in LiST (arXiv:2110.06274).

    Args:
        in_features: width of the input.
        out_features: width of the output.
        rank: the rank of :math:`W`, from 1 to the smaller width.
        init: `lora`, `glorot` or `normal`.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    def __init__(
        self, in_features: int, out_features: int, rank: int = 8, init: Literal["lora", "glorot", "normal"] = "lora"
    ) -> None:
        super().__init__(in_features, out_features)
        if not 1 <= rank <= min(in_features, out_features):
            raise ValueError(
                f"`rank`={rank} must lie between 1 and {min(in_features, out_features)}, the smaller width."
            )
        self.rank = rank
        self.init = init
        self.a = nn.Parameter(torch.empty(rank, in_features))
        self.b = nn.Parameter(torch.empty(out_features, rank))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x)
        return F.linear(F.linear(x.to(dtype), self.a.to(dtype)), self.b.to(dtype))

    def to_dense(self) -> Tensor:
        return self.b @ self.a

    def thin_factors(self) -> tuple[Tensor, Tensor]:
        return self.a, self.b

    def reset_parameters(self) -> None:
        if self.init == "glorot":
            glorot_uniform_(self.a)
            glorot_uniform_(self.b)
        elif self.init == "normal":
            nn.init.normal_(self.a, std=0.02)
            nn.init.normal_(self.b, std=0.02)
        else:
            nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
            nn.init.zeros_(self.b)
