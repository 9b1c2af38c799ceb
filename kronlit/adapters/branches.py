"""Parallel Kronecker products, the body of KronA^B: Edalati et al., 2022, arXiv:2212.10650, appendix B.2."""

from typing import cast

import torch
from torch import Tensor, nn

from kronlit.structured import Kronecker


class KroneckerBranches(nn.Module):
    r"""The sum of several affine maps, each a Kronecker product: :math:`\sum_k (A_k \otimes B_k) x + b_k`.

    Biases start as zero.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        num_branches: number of maps.
        output_biases: how many of them have a bias on their output, `(out_features,)`.
        inner_biases: how many of them have a bias between their two small products. Its shape is `(a_1, b_2)`, where
            :math:`A` is :math:`(a_1, a_2)` and :math:`B` is :math:`(b_1, b_2)`.
        a_shape: see `kronlit.structured.Kronecker`.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_branches: int = 1,
        output_biases: int = 0,
        inner_biases: int = 0,
        a_shape: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        branches = [Kronecker(in_features, out_features, a_shape) for _ in range(num_branches)]
        self.branches = nn.ModuleList(branches)
        inner = (branches[0].a.shape[0], branches[0].b.shape[1])
        self.output_bias = nn.ParameterList(torch.zeros(out_features) for _ in range(output_biases))
        self.inner_bias = nn.ParameterList(torch.zeros(inner) for _ in range(inner_biases))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = sum(branch(x) for branch in self.branches)
        for bias in self._biases():
            y = y + bias.to(y.dtype)
        return y

    def to_dense(self) -> Tensor:
        """The matrix without the biases, `(out_features, in_features)`."""
        return torch.stack([cast(Kronecker, branch).to_dense() for branch in self.branches]).sum(0)

    def _biases(self) -> list[Tensor]:
        """All biases, moved to the output: `(AX + C)Bᵀ = AXBᵀ + CBᵀ`, and CBᵀ is the same for all tokens."""
        inner = zip(self.branches, self.inner_bias, strict=False)
        return [*self.output_bias, *((bias @ branch.b.mT).flatten() for branch, bias in inner)]
