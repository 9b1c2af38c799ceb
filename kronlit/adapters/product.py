"""Products of a weight with a matrix before it: Qiu et al., OFT, 2023, arXiv:2306.07280."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.adapters.linear import applies_its_weight, matrix_of
from kronlit.adapters.weight_change import Matrix, WeightChange, is_zero
from kronlit.structured import StructuredLinear
from kronlit.structured.rows import Rows, index


class Product(WeightChange):
    r"""A matrix before the host, :math:`y = \mathrm{host}(W x)`: the weight becomes :math:`W_0 W`.

    :math:`W` must start as the identity, or nearly so, as `BlockOrthogonal` does. It needs nothing of the host's
    weight, so that may be quantised, but where it changes a part of the output alone.

    Args:
        host: a linear module.
        in_features: width of the host's input.
        out_features: width of the host's output.
        matrix: makes :math:`W` from `(in_features, in_features)`.
        slices: as in `MatrixChange`.
    """

    separable = True

    def __init__(
        self,
        host: nn.Module,
        in_features: int,
        out_features: int,
        matrix: Matrix,
        slices: Mapping[str, Rows] | None = None,
    ) -> None:
        super().__init__(host, in_features, out_features)
        self.slices = None if slices is None else dict(slices)
        if slices is None:
            self.matrix: nn.Module = matrix(in_features, in_features)
        else:
            self.matrix = nn.ModuleDict({name: matrix(in_features, in_features) for name in slices})
        if any(is_zero(one) for _, one in self.matrices()):
            raise ValueError(
                "a Product multiplies the weight by its matrix, and this one starts as zero: take one that starts as "
                "the identity, as BlockOrthogonal does."
            )

    @property
    def parts(self) -> dict[str, slice | Tensor]:
        if self.slices is None:
            return super().parts
        return {name: index(rows, self.out_features) for name, rows in self.slices.items()}

    def matrices(self) -> list[tuple[slice | Tensor, StructuredLinear]]:
        """The matrices, each with the rows of the host's weight that it multiplies."""
        each = [self.matrix] if self.slices is None else [self.matrix.get_submodule(name) for name in self.slices]
        return [(rows, cast(StructuredLinear, one)) for rows, one in zip(self.parts.values(), each, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        if self.slices is None:
            whole: Tensor = self.host(self.matrix(x))
            return whole
        y: Tensor = self.host(x).clone()
        for rows, matrix in self.matrices():
            y[..., rows] = self._part(matrix(x), rows)
        return y

    def _part(self, x: Tensor, rows: slice | Tensor) -> Tensor:
        """A part of the host's output."""
        if not applies_its_weight(self.host):
            whole: Tensor = self.host(x)
            return whole[..., rows]
        bias = None if self.bias is None else self.bias[rows].to(x.dtype)
        return F.linear(x, matrix_of(self.host)[rows].to(x.dtype), bias)

    def change(self, weight: Tensor) -> Tensor:
        change = torch.zeros_like(weight)
        for rows, matrix in self.matrices():
            change[rows] = weight[rows] @ matrix.to_dense().to(weight.dtype) - weight[rows]
        return change
