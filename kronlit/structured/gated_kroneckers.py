"""Gated sums of Kronecker products of several shapes: Sadeghi et al., MoKA, 2025, arXiv:2508.03527."""

import math

import torch
from torch import Tensor, nn

from kronlit.structured.base import FusedUpdate, StructuredLinear, compute_dtype
from kronlit.structured.kronecker import KroneckerProduct, add_kronecker, factor_gradients, shapes_by_cost

Shape = tuple[int, int]


class GatedKroneckers(StructuredLinear):
    r"""A gated sum of Kronecker products, :math:`W = \sum_i g_i \, A_i \otimes B_i`, as in MoKA.

    The components have shapes of their own. The gate :math:`g` is the softmax of one trained number for each component,
    equal ones at the start, and does not depend on the input, so the sum is a matrix. :math:`W` is never formed, and
    only the input is kept for the backward pass.

    The :math:`A_i` start Kaiming-uniform and the :math:`B_i` as zero, as in `Kronecker`.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        a_shapes: the shape of each :math:`A_i`, `(rows, columns)`, which divides that of :math:`W`; :math:`B_i` has the
            shape that remains. By default the four with the fewest parameters and, of those, the highest rank.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> [tuple(a.shape) for a, _ in GatedKroneckers(768, 768).components()]
        [(24, 32), (32, 24), (16, 48), (48, 16)]
    """

    def __init__(self, in_features: int, out_features: int, a_shapes: tuple[Shape, ...] | None = None) -> None:
        super().__init__(in_features, out_features)
        shapes = tuple(shapes_by_cost(out_features, in_features)[:4]) if a_shapes is None else a_shapes
        if not shapes:
            raise ValueError("`a_shapes`=() must name the shape of one component or more.")
        self.num_components = len(shapes)
        for i, (a1, a2) in enumerate(shapes):
            if min(a1, a2) < 1 or out_features % a1 or in_features % a2:
                raise ValueError(f"`a_shapes` has {(a1, a2)}, which must divide {(out_features, in_features)}.")
            self.register_parameter(f"a{i}", nn.Parameter(torch.empty(a1, a2)))
            self.register_parameter(f"b{i}", nn.Parameter(torch.empty(out_features // a1, in_features // a2)))
        self.gate = nn.Parameter(torch.empty(len(shapes)))
        self.reset_parameters()

    def components(self) -> list[tuple[Tensor, Tensor]]:
        """The factors of each component, without its gate."""
        return [(getattr(self, f"a{i}"), getattr(self, f"b{i}")) for i in range(self.num_components)]

    def gated(self) -> list[tuple[Tensor, Tensor]]:
        """The factors of each component, the first times its gate."""
        return [(g * a, b) for g, (a, b) in zip(self.gate.softmax(0), self.components(), strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x)
        x = x.to(dtype)
        first, *others = [KroneckerProduct.apply(x, a.to(dtype), b.to(dtype)) for a, b in self.gated()]
        for other in others:
            first = first + other
        return first

    def to_dense(self) -> Tensor:
        products = [g * torch.kron(a, b) for g, (a, b) in zip(self.gate.softmax(0), self.components(), strict=True)]
        return torch.stack(products).sum(0)

    def summand(self) -> FusedUpdate:
        return FusedUpdate(tuple(factor for pair in self.gated() for factor in pair), add_all, all_gradients)

    def reset_parameters(self) -> None:
        for a, b in self.components():
            nn.init.kaiming_uniform_(a, a=math.sqrt(5), mode="fan_out")
            nn.init.zeros_(b)
        nn.init.ones_(self.gate)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, a_shapes={[tuple(a.shape) for a, _ in self.components()]}"


def add_all(weight: Tensor, scale: float, *factors: Tensor) -> Tensor:
    """`weight + scale · Σ A ⊗ B`."""
    for a, b in zip(factors[::2], factors[1::2], strict=True):
        weight = add_kronecker(weight, scale, a, b)
    return weight


def all_gradients(x: Tensor, dy: Tensor, *factors: Tensor) -> tuple[Tensor, ...]:
    """The gradients of all factors from `dy`, the gradient of `y = Wx`."""
    pairs = zip(factors[::2], factors[1::2], strict=True)
    return tuple(gradient for a, b in pairs for gradient in factor_gradients(x, dy, a, b))
