"""Magnitude and direction of a weight apart: Liu et al., DoRA, 2024, arXiv:2402.09353."""

from typing import Any

import torch
from torch import Tensor, nn

from kronlit.adapters.linear import applied_weight
from kronlit.adapters.weight_change import MatrixChange, refuse_mixture
from kronlit.structured.base import without_autocast


class WeightDecomposed(MatrixChange):
    r"""A changed weight whose rows have trained lengths, as in DoRA: :math:`m \odot (W_0 + s W) / \|W_0 + s W\|`.

    The norm is that of each row of the present sum, and a constant in the backward pass (section 4.3). The lengths
    :math:`m` start as those of :math:`W_0`. The matrix is formed for the norm alone, and the norm in each pass.

    It takes the arguments of `MatrixChange`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_mixture(self)
        weight = applied_weight(self.host, torch.float32)
        self.magnitude = nn.Parameter(torch.cat([length(weight[rows]) for rows in self.parts.values()]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.beside(x, bias=False)
        changed = y * self.factor(applied_weight(self.host, torch.float32))  # in float32 at least
        if self.bias is not None:
            changed = changed + self.bias
        return changed.to(y.dtype)

    def factor(self, weight: Tensor) -> Tensor:
        """What each row of :math:`W_0 + s W` is multiplied by, `(out_features,)`."""
        with torch.no_grad(), without_autocast(weight.device):
            norm = length(weight + self.scale * self.matrix.to_dense())
        factor, start = torch.ones_like(norm), 0
        for rows in self.parts.values():
            lengths = self.magnitude[start : start + len(norm[rows])]
            factor[rows] = lengths.to(norm.dtype) / norm[rows]
            start += len(lengths)
        return factor

    def change(self, weight: Tensor) -> Tensor:
        return self.factor(weight).unsqueeze(-1) * (weight + self.scale * self.matrix.to_dense()) - weight


def length(weight: Tensor) -> Tensor:
    """The length of each row, in float32 at least, and never 0."""
    whole = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
    return torch.linalg.vector_norm(whole, dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
