"""A layer without a bottleneck, the body of SURM's adapters: Sehanobish et al., 2024, arXiv:2406.17740."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kronlit.adapters.bottleneck import ACTIVATIONS, Activation
from kronlit.structured import StructuredLinear


class SingleLayer(nn.Module):
    r"""One matrix, an activation, and then a bias: :math:`\phi(W \, \mathrm{drop}(x)) + b`. The bias starts as zero.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        matrix: makes :math:`W` from `(in_features, out_features)`.
        activation: relu, gelu, gelu_new (with tanh, as T5 v1.1 and GPT-2 have it), silu, mish or tanh. If :math:`W`
            starts as zero, do not take relu: its gradient at 0 is 0, so the matrix would stay there.
        dropout: dropout rate of the input.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        matrix: Callable[[int, int], StructuredLinear],
        activation: Activation = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.matrix = matrix(in_features, out_features)
        self.activation = activation
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        y = ACTIVATIONS[self.activation](self.matrix(self.dropout(x)))
        return y + self.bias.to(y.dtype)

    def extra_repr(self) -> str:
        return f"activation={self.activation}"
