"""Hadamard products of two low-rank matrices: Singhal et al., ABBA, 2025, arXiv:2505.14238."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.structured.base import FusedUpdate, StructuredLinear, compute_dtype


class LowRankHadamard(StructuredLinear):
    r"""Two low-rank matrices multiplied entry by entry, :math:`W = \alpha \, (B_1 A_1) \odot (B_2 A_2)`, as in ABBA.

    There are `(rank1 + rank2) * (in_features + out_features)` parameters, and the rank is up to `rank1 * rank2`: a row
    of products of :math:`A_1` and :math:`A_2` for each pair of their rows, and so for the columns of the :math:`B_i`,
    make it a product of two thin matrices (Khatri-Rao). It is applied so, and formed only beside a frozen weight, where
    that is cheaper.

    :math:`B_1 A_1` starts as the best approximation of rank `rank1` of the weight that it changes, as a randomised
    singular value decomposition finds it, its singular values shared equally; without a weight, both are
    Kaiming-uniform with :math:`a = \sqrt 5`. :math:`A_2` starts Kaiming-uniform with :math:`a = 0` and :math:`B_2` as
    zero.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        rank1: the rank of the first matrix, from 1 to the smaller width.
        rank2: the rank of the second matrix, likewise.
        alpha: the factor of the product.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> sum(p.numel() for p in LowRankHadamard(768, 768).parameters())
        49152
    """

    def __init__(
        self, in_features: int, out_features: int, rank1: int = 16, rank2: int = 16, alpha: float = 32.0
    ) -> None:
        super().__init__(in_features, out_features)
        most = min(in_features, out_features)
        for name, rank in (("rank1", rank1), ("rank2", rank2)):
            if not 1 <= rank <= most:
                raise ValueError(f"`{name}`={rank} must lie between 1 and {most}, the smaller width.")
        self.rank1 = rank1
        self.rank2 = rank2
        self.alpha = alpha
        self.a1 = nn.Parameter(torch.empty(rank1, in_features))
        self.b1 = nn.Parameter(torch.empty(out_features, rank1))
        self.a2 = nn.Parameter(torch.empty(rank2, in_features))
        self.b2 = nn.Parameter(torch.empty(out_features, rank2))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x)
        a, b = self.thin_factors()
        return F.linear(F.linear(x.to(dtype), a.to(dtype)), b.to(dtype))

    def to_dense(self) -> Tensor:
        return self.alpha * (self.b1 @ self.a1) * (self.b2 @ self.a2)

    def thin_factors(self) -> tuple[Tensor, Tensor]:
        a = (self.a1.unsqueeze(1) * self.a2).flatten(0, 1)  # (r1 r2, in)
        b = (self.alpha * self.b1.unsqueeze(2) * self.b2.unsqueeze(1)).flatten(1)  # (out, r1 r2)
        return a, b

    def summand(self) -> FusedUpdate | None:
        # A token costs three products with both thin matrices, or, formed, one for the gradient of W.
        thin = 3 * self.rank1 * self.rank2 * (self.in_features + self.out_features)
        if thin < self.in_features * self.out_features:
            return None
        factors = (self.b1, self.a1, self.b2, self.a2)
        return FusedUpdate(factors, partial(add_product, self.alpha), partial(pullback, self.alpha))

    def reset_parameters(self) -> None:
        for factor in (self.a1, self.b1):
            nn.init.kaiming_uniform_(factor, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.a2)
        nn.init.zeros_(self.b2)

    @torch.no_grad()
    def start_from(self, weight: Callable[[], Tensor]) -> None:
        whole = weight()
        if whole.is_meta or self.a1.is_meta:
            return
        more = min(self.rank1 + 8, *whole.shape)  # some directions more than are kept, for exactness
        u, s, v = (part[..., : self.rank1] for part in torch.svd_lowrank(whole.to(self.a1), q=more, niter=10))
        self.b1.copy_(u * s.sqrt())
        self.a1.copy_((v * s.sqrt()).mT)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank1={self.rank1}, rank2={self.rank2}, alpha={self.alpha}"


def add_product(alpha: float, weight: Tensor, scale: float, b1: Tensor, a1: Tensor, b2: Tensor, a2: Tensor) -> Tensor:
    """`weight + scale · W`."""
    return torch.addcmul(weight, b1 @ a1, b2 @ a2, value=alpha * scale)


def pullback(
    alpha: float, x: Tensor, dy: Tensor, b1: Tensor, a1: Tensor, b2: Tensor, a2: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of the factors from `dy`, the gradient of `y = Wx`; that of W is formed."""
    whole = alpha * (dy.flatten(0, -2).mT @ x.flatten(0, -2)).to(b1.dtype)
    first, second = whole * (b2 @ a2), whole * (b1 @ a1)
    return first @ a1.mT, b1.mT @ first, second @ a2.mT, b2.mT @ second
