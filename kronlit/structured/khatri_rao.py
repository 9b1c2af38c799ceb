"""Khatri-Rao products: Albert et al., KRAdapter, 2025, arXiv:2508.00230."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from kronlit.structured.base import FusedUpdate, StructuredLinear, compute_dtype
from kronlit.structured.formed import FormedProduct


class KhatriRao(StructuredLinear):
    r"""The Khatri-Rao product of two matrices: each column of :math:`W` is :math:`2 \, u_k \otimes v_k`, cut to length.

    With m the smaller width, :math:`U` is :math:`(\rho, m)` and :math:`V` is :math:`(\rho + \delta, m)`, where
    :math:`\rho = \lfloor \sqrt m \rfloor` and :math:`\delta` is the least with which :math:`\rho (\rho + \delta)`
    reaches the larger width. If the input is wider than the output, the products are the rows of :math:`W`. Almost
    every such matrix has full rank. It is formed once a pass, which costs less than to apply it, and is not kept.

    :math:`V` starts Kaiming-uniform with :math:`a = \sqrt 5` and :math:`U` as zero.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        scale: the factor of the products; the paper's code has 2.

    Shape:
        `(..., in_features)` to `(..., out_features)`.

    Example:
        >>> matrix = KhatriRao(768, 768)
        >>> matrix.u.shape, matrix.v.shape
        (torch.Size([27, 768]), torch.Size([29, 768]))
    """

    def __init__(self, in_features: int, out_features: int, scale: float = 2.0) -> None:
        super().__init__(in_features, out_features)
        self.scale = scale
        few, many = sorted((in_features, out_features))
        rows = math.isqrt(few)
        self.u = nn.Parameter(torch.empty(rows, few))
        self.v = nn.Parameter(torch.empty(-(-many // rows), few))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        form = partial(khatri_rao, self.scale, self.out_features, self.in_features)
        return FormedProduct.apply(x.to(compute_dtype(x)), form, partial(pullback, self.scale), self.u, self.v)

    def to_dense(self) -> Tensor:
        rows = max(self.in_features, self.out_features)
        columns = [torch.kron(u, v)[:rows] for u, v in zip(self.u.mT, self.v.mT, strict=True)]
        return self.scale * torch.stack(columns, 1 if self.out_features >= self.in_features else 0)

    def summand(self) -> FusedUpdate:
        return FusedUpdate((self.u, self.v), partial(add_khatri_rao, self.scale), partial(pullback, self.scale))

    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.v, a=math.sqrt(5))
        nn.init.zeros_(self.u)


def khatri_rao(scale: float, rows: int, columns: int, u: Tensor, v: Tensor) -> Tensor:
    """The matrix, `(rows, columns)`, whose longer sides are `scale · u_k ⊗ v_k`, cut to length."""
    products = ((scale * u).unsqueeze(1) * v).flatten(0, 1)  # (ρ (ρ + δ), m)
    return products[:rows] if rows >= columns else products[:columns].mT


def add_khatri_rao(factor: float, weight: Tensor, scale: float, u: Tensor, v: Tensor) -> Tensor:
    """`weight + scale · W`."""
    rows, columns = weight.shape
    return weight + khatri_rao(factor * scale, rows, columns, u, v)


def pullback(scale: float, x: Tensor, dy: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `u` and `v` from `dy`, the gradient of `y = Wx`.

    That of W is formed: contracting each of the two without it would cost as much as this twice.
    """
    x, dy = x.flatten(0, -2), dy.flatten(0, -2)
    if dy.shape[1] >= x.shape[1]:
        products = dy.mT @ x  # (max, m), of the uncut products' first rows
    else:
        products = x.mT @ dy
    missing = len(u) * len(v) - len(products)
    products = torch.nn.functional.pad(scale * products.to(u.dtype), (0, 0, 0, missing))
    products = products.unflatten(0, (len(u), len(v)))  # (ρ, ρ + δ, m)
    return (products * v).sum(1), (products * u.unsqueeze(1)).sum(0)
