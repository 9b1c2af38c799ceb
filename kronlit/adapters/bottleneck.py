"""Bottlenecks, the bodies of adapters: Houlsby et al., 2019, arXiv:1902.00751, figure 2."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kronlit.structured import StructuredLinear

Activation = Literal["relu", "gelu", "gelu_new", "silu", "mish", "tanh"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "tanh": torch.tanh,
}
"""The activations, by the names that Transformers gives them."""


class Bottleneck(nn.Module):
    r"""Down, activation, up: :math:`W_u \, \phi(W_d x + b_d) + b_u`. Biases start as zero.

    A projection that has its own bias, such as a mixture, gets no second one.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        width: width of the bottleneck.
        down: makes :math:`W_d` from `(in_features, width)`.
        up: makes :math:`W_u` from `(width, out_features)`.
        activation: relu, gelu, gelu_new (with tanh, as T5 v1.1 and GPT-2 have it), silu, mish or tanh.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        width: int,
        down: Callable[[int, int], StructuredLinear],
        up: Callable[[int, int], StructuredLinear],
        activation: Activation = "gelu_new",
    ) -> None:
        super().__init__()
        self.down = down(in_features, width)
        self.down_bias = own_bias(self.down)
        self.activation = activation
        self.up = up(width, out_features)
        self.up_bias = own_bias(self.up)

    def forward(self, x: Tensor) -> Tensor:
        h = ACTIVATIONS[self.activation](affine(self.down, self.down_bias, x))
        return affine(self.up, self.up_bias, h)

    def extra_repr(self) -> str:
        return f"activation={self.activation}"


def own_bias(matrix: StructuredLinear) -> nn.Parameter | None:
    """A bias for `matrix`; `None` if it has its own."""
    return nn.Parameter(torch.zeros(matrix.out_features)) if getattr(matrix, "bias", None) is None else None


def affine(matrix: StructuredLinear, bias: nn.Parameter | None, x: Tensor) -> Tensor:
    """:math:`Wx + b`."""
    y: Tensor = matrix(x)
    return y if bias is None else y + bias.to(y.dtype)


def bottleneck_width(width: int, reduction_factor: int) -> int:
    """The width of a bottleneck, `width // reduction_factor`.

    Raises:
        ValueError: if the width would be 0.
    """
    if not 1 <= reduction_factor <= width:
        raise ValueError(f"`reduction_factor`={reduction_factor} must lie between 1 and the width, {width}.")
    return width // reduction_factor
