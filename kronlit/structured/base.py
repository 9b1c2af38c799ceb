"""The contract of a structured matrix, and its plainest case, the dense one."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FusedUpdate(NamedTuple):
    """How to add a structured matrix to a dense one, so that one product applies both."""

    generators: tuple[Tensor, ...]
    """The parameters that the matrix is formed from."""
    added: Callable[..., Tensor]
    """Computes `weight + scale · W` from `(weight, scale, *generators)`."""
    pullback: Callable[..., tuple[Tensor, ...]]
    """Computes the gradients of the generators from `(x, dy, *generators)`, where `dy` is the gradient of `y = Wx`.

    It forms the gradient of W itself only where nothing cheaper gives them.
    """


class StructuredLinear(nn.Module):
    r"""A linear map :math:`R^{in} \to R^{out}`, :math:`y = Wx`, given by few parameters.

    To add one, subclass it and write three methods:

    - `forward`: the fast product;
    - `to_dense`: :math:`W` of shape `(out_features, in_features)`, as `nn.Linear` stores it. Write it from the
      definition, and never call `forward`: tests compare the two;
    - `reset_parameters`: the paper's initialisation. Call it at the end of `__init__`.

    Args:
        in_features: width of the input.
        out_features: width of the output.

    Shape:
        `(..., in_features)` to `(..., out_features)`.
    """

    tied: tuple[str, ...] = ()
    """Names of the parameters that all such matrices of a model share."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"a matrix needs positive widths, not {out_features} x {in_features}.")
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def to_dense(self) -> Tensor:
        raise NotImplementedError

    def added_to(self, y: Tensor, x: Tensor, scale: float) -> Tensor:
        """`y + scale · Wx`."""
        return torch.add(y, self(x), alpha=scale)

    def summand(self) -> FusedUpdate | None:
        """How to apply the matrix together with a dense one; `None` if there is no fast way."""
        return None

    def thin_factors(self) -> tuple[Tensor, Tensor] | None:
        """Matrices A `(n, in_features)` and B `(out_features, n)` with W = BA; `None` if the structure has none so.

        What has them can be written as a LoRA.
        """
        return None

    def reset_parameters(self) -> None:
        raise NotImplementedError

    def start_from(self, weight: Callable[[], Tensor]) -> None:
        """Start by the frozen weight beside which the matrix is placed; most structures do not look at it.

        Args:
            weight: computes that weight, `(out_features, in_features)`; on the meta device it has no values.
        """

    @property
    def starts_from_weight(self) -> bool:
        """Whether `start_from` does anything, so that there is no start without a weight."""
        return type(self).start_from is not StructuredLinear.start_from

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of a product with `x`: autocast's if that is on, else the dtype of `x`.

    Parameters are float32, but the frozen model may not be, so each structure casts its few parameters to this dtype.
    """
    if x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context in which products are as precise as their factors; on the meta device there is no autocast."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def glorot_uniform_(weight: Tensor) -> None:
    """Glorot-uniform with gain √2, the weight initialisation of the code of Mahabadi et al."""
    nn.init.xavier_uniform_(weight, gain=math.sqrt(2))


def normal_then_zero_(first: Tensor, last: Tensor, std: float, zero: bool) -> None:
    """Initialise the two factors of a product as normal, or the last one as zero if asked for.

    For a single factor, pass it twice.
    """
    nn.init.normal_(first, std=std)
    if zero:
        nn.init.zeros_(last)
    elif last is not first:
        nn.init.normal_(last, std=std)


class Dense(StructuredLinear):
    r"""A matrix without structure, :math:`W` itself: `in_features * out_features` parameters.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        std: standard deviation of the normal initialisation; 0 gives zeros. By default it is the Kaiming-uniform
            initialisation of `nn.Linear`.
    """

    def __init__(self, in_features: int, out_features: int, std: float | None = None) -> None:
        super().__init__(in_features, out_features)
        self.std = std
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x)
        return F.linear(x.to(dtype), self.weight.to(dtype))

    def to_dense(self) -> Tensor:
        return self.weight

    def reset_parameters(self) -> None:
        if self.std is None:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        else:
            nn.init.normal_(self.weight, std=self.std)
