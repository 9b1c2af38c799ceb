"""Kronecker products: Edalati et al., KronA, 2022, arXiv:2212.10650, section 3."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kronlit.structured.base import FusedUpdate, StructuredLinear, compute_dtype
from kronlit.structured.pieces import join_pieces, split_pieces


class Kronecker(StructuredLinear):
    r"""The Kronecker product :math:`W = A \otimes B`.

    :math:`A` has the shape `a_shape`, and :math:`B` the shape that remains. The rank of :math:`W` is the product of
    the ranks of both, so few parameters can reach a high rank. :math:`W` is never formed. With the input reshaped to
    :math:`X`, `(a_2, b_2)`, the product is :math:`Wx = \mathrm{vec}(A X B^T)` (equation 2), in the cheaper order.
    Only the input is kept for the backward pass.

    :math:`A` starts Kaiming-uniform and :math:`B` as zero (appendix B.1), so the map starts as zero. The paper
    multiplies from the right, so its :math:`A_k` is the transpose of this :math:`A`; the bound of its initialisation,
    :math:`1 / \sqrt{a_1}`, is the same. With `init="surm"` the left factor starts as zero, and the bound of the right
    one is :math:`1 / \sqrt{b_2}`, as in the code of SURM (arXiv:2406.17740).

    Args:
        in_features: width of the input; a multiple of `a_shape[1]`.
        out_features: width of the output; a multiple of `a_shape[0]`.
        a_shape: shape of :math:`A`, `(rows, columns)`. The default has the fewest parameters; among equals, the
            highest rank, then the most columns.
        init: `krona` or `surm`.
        std: standard deviation of a normal initialisation, in place of the Kaiming-uniform one.
        zero_start: start one factor as zero. If false, it starts like the other one.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> Kronecker(768, 768).a.shape, Kronecker(768, 768).b.shape
        (torch.Size([24, 32]), torch.Size([32, 24]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        a_shape: tuple[int, int] | None = None,
        init: Literal["krona", "surm"] = "krona",
        std: float | None = None,
        zero_start: bool = True,
    ) -> None:
        super().__init__(in_features, out_features)
        a1, a2 = balanced_shape(out_features, in_features) if a_shape is None else a_shape
        if min(a1, a2) < 1 or out_features % a1 or in_features % a2:
            raise ValueError(
                f"`a_shape`={(a1, a2)} must divide the map's shape {(out_features, in_features)}, "
                f"as does {balanced_shape(out_features, in_features)}."
            )
        self.init = init
        self.std = std
        self.zero_start = zero_start
        self.a = nn.Parameter(torch.empty(a1, a2))
        self.b = nn.Parameter(torch.empty(out_features // a1, in_features // a2))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x)
        return KroneckerProduct.apply(x.to(dtype), self.a.to(dtype), self.b.to(dtype))

    def to_dense(self) -> Tensor:
        return torch.kron(self.a, self.b)

    def summand(self) -> FusedUpdate:
        return FusedUpdate((self.a, self.b), add_kronecker, factor_gradients)

    def thin_factors(self) -> tuple[Tensor, Tensor]:
        # Thin where a factor is: A ⊗ B = (A' ⊗ B')(A" ⊗ B") for A = A' A" and B = B' B"
        (left_a, right_a), (left_b, right_b) = split_matrix(self.a), split_matrix(self.b)
        return torch.kron(right_a, right_b), torch.kron(left_a, left_b)

    def reset_parameters(self) -> None:
        first, last = (self.a, self.b) if self.init == "krona" else (self.b, self.a)
        for factor in (first,) if self.zero_start else (first, last):
            if self.std is None:
                nn.init.kaiming_uniform_(factor, a=math.sqrt(5), mode="fan_out" if self.init == "krona" else "fan_in")
            else:
                nn.init.normal_(factor, std=self.std)
        if self.zero_start:
            nn.init.zeros_(last)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, a_shape={tuple(self.a.shape)}"


def balanced_shape(rows: int, columns: int) -> tuple[int, int]:
    """The shape of A for which A ⊗ B of shape `(rows, columns)` has the fewest parameters, then the highest rank.

    If several remain (A ⊗ B and B ⊗ A), it is the one with the most columns. For 768 x 768 that is the paper's.
    """
    return shapes_by_cost(rows, columns)[0]


def shapes_by_cost(rows: int, columns: int) -> list[tuple[int, int]]:
    """All shapes of A for A ⊗ B of shape `(rows, columns)`, those first that `balanced_shape` prefers."""

    def cost(shape: tuple[int, int]) -> tuple[int, int, int]:
        a1, a2 = shape
        b1, b2 = rows // a1, columns // a2
        return a1 * a2 + b1 * b2, -min(a1, a2) * min(b1, b2), -a2

    return sorted(((a1, a2) for a1 in divisors(rows) for a2 in divisors(columns)), key=cost)


def split_matrix(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Write `matrix` as a product of itself and an identity of its smaller size."""
    rows, columns = matrix.shape
    identity = torch.eye(min(rows, columns), dtype=matrix.dtype, device=matrix.device)
    return (identity, matrix) if rows <= columns else (matrix, identity)


def divisors(n: int) -> list[int]:
    """All divisors of `n`."""
    small = [i for i in range(1, math.isqrt(n) + 1) if n % i == 0]
    return sorted({*small, *(n // i for i in small)})


def applies_b_first(a: Tensor, b: Tensor) -> bool:
    """Whether A(XBᵀ) takes fewer multiply-adds than (AX)Bᵀ."""
    (a1, a2), (b1, b2) = a.shape, b.shape
    return a2 * b1 * (b2 + a1) <= a1 * b2 * (a2 + b1)


def multiply_left(a: Tensor, x: Tensor) -> Tensor:
    """`A X_t` for every token t, as a batch of small products: `a @ x` would transpose `x` for one large product."""
    return torch.bmm(a.expand(len(x), *a.shape), x)


def contract_tokens(u: Tensor, v: Tensor) -> Tensor:
    """The sum of `U_t V_tᵀ` over tokens t."""
    if u.shape[1] * v.shape[1] <= u.shape[1] * u.shape[2] + v.shape[1] * v.shape[2]:
        return torch.bmm(u, v.mT).sum(0)  # small products first: two times faster, in no more memory than `u` and `v`
    return torch.tensordot(u, v, dims=([0, 2], [0, 2]))


class KroneckerProduct(torch.autograd.Function):
    """`y = (A ⊗ B) x`. It saves only its three inputs for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, a, b)
        y = []
        for (x3,) in split_pieces(x.shape[-1], tokens(x, a, b, 1)):  # (t, a2, b2)
            piece = multiply_left(a, x3 @ b.mT) if applies_b_first(a, b) else multiply_left(a, x3) @ b.mT
            y.append(piece.flatten(1))  # (t, a1 b1)
        return join_pieces(y, x, a.shape[0] * b.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, a, b = ctx.saved_tensors
        return pullback(x, a, b, dy, of_x=ctx.needs_input_grad[0])


def pullback(x: Tensor, a: Tensor, b: Tensor, dy: Tensor, of_x: bool) -> tuple[Tensor | None, Tensor, Tensor]:
    """The gradients of `x` (if `of_x`), `a` and `b` from `dy`, the gradient of `y = (A ⊗ B) x`."""
    of_a, of_b = (torch.zeros_like(factor, dtype=torch.promote_types(factor.dtype, torch.float32)) for factor in (a, b))
    dx = []
    for x3, dy3 in split_pieces(x.shape[-1] + dy.shape[-1], tokens(x, a, b, 1), tokens(dy, a, b, 0)):
        if applies_b_first(a, b):
            h, dh = x3 @ b.mT, multiply_left(a.mT, dy3)  # (t, a2, b1), the intermediate and its gradient
            of_a += contract_tokens(dy3, h)
            of_b += dh.flatten(0, 1).mT @ x3.flatten(0, 1)
        else:
            h, dh = multiply_left(a, x3), dy3 @ b  # (t, a1, b2)
            of_a += contract_tokens(dh, x3)
            of_b += dy3.flatten(0, 1).mT @ h.flatten(0, 1)
        if of_x:
            dx.append((dh @ b if applies_b_first(a, b) else multiply_left(a.mT, dh)).flatten(1))
    return join_pieces(dx, x, x.shape[-1]) if of_x else None, of_a.to(a.dtype), of_b.to(b.dtype)


def tokens(x: Tensor, a: Tensor, b: Tensor, side: int) -> Tensor:
    """Each token of `x` as a matrix: as wide as the factors on `side` 1, as high as they are on side 0."""
    return x.reshape(-1, a.shape[side], b.shape[side])


def factor_gradients(x: Tensor, dy: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `a` and `b` from `dy`, the gradient of `y = (A ⊗ B) x`."""
    _, da, db = pullback(x, a, b, dy, of_x=False)
    return da, db


def add_kronecker(weight: Tensor, scale: float, a: Tensor, b: Tensor) -> Tensor:
    """`weight + scale · A ⊗ B`, in one pass."""
    (a1, a2), (b1, b2) = a.shape, b.shape
    blocks = torch.addcmul(weight.reshape(a1, b1, a2, b2), a.view(a1, 1, a2, 1), b.view(1, b1, 1, b2), value=scale)
    return blocks.reshape(weight.shape)
