"""Elementwise changes of a weight: Huang et al., HiRA, 2025, ICLR."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kronlit.adapters.linear import applied_weight, applies_its_weight, weight_of
from kronlit.adapters.weight_change import MatrixChange, refuse_mixture
from kronlit.structured import StructuredLinear
from kronlit.structured.base import compute_dtype, without_autocast


class Hadamard(MatrixChange):
    r"""A change in proportion to the host's weight, :math:`W_0 + s \, W_0 \odot W` elementwise, as in HiRA.

    Its rank may be full, whatever that of :math:`W`. The matrix is formed in each pass, from few parameters, and
    multiplied with the weight; nothing of that size is kept for the backward pass. In 16 bits the host's product is
    computed apart, because a sum would round away a small change.

    It takes the arguments of `MatrixChange`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_mixture(self)

    def forward(self, x: Tensor) -> Tensor:
        dtype, seen = compute_dtype(x), self._dropped(x)
        if weight_of(self.host).requires_grad:
            y: Tensor = self.host(x)
            return y + F.linear(seen.to(dtype), self.change(applied_weight(self.host, dtype)).to(dtype))
        one = dtype.itemsize > 2 and seen is x
        values: dict[str, Tensor] = dict(self.matrix.named_parameters())
        if isinstance(self.scale, Tensor):
            values["scale"] = self.scale
        scaling = Scaling(self.matrix, self.scale, one)
        y = ScaledProduct.apply(seen.to(dtype), self.host, scaling, list(values), *values.values())
        other = self.bias if one else self.host(x)
        return y if other is None else y + other.to(y.dtype)

    def change(self, weight: Tensor) -> Tensor:
        return weight * (self.scale * self.matrix.to_dense())


class Scaling(nn.Module):
    """The factors of a weight's entries, as a function of parameters: `s W`, and 1 more if asked for."""

    def __init__(self, matrix: StructuredLinear, scale: Any, one: bool) -> None:
        super().__init__()
        self.matrix = matrix
        self.scale = scale
        self.one = one

    def forward(self) -> Tensor:
        factors: Tensor = self.scale * self.matrix.to_dense()
        return factors + 1 if self.one else factors

    def of(self, values: Mapping[str, Tensor]) -> Tensor:
        """The factors for these values of the parameters."""
        named = {name if name == "scale" else f"matrix.{name}": value for name, value in values.items()}
        factors: Tensor = torch.func.functional_call(self, named, ())
        return factors


class ScaledProduct(torch.autograd.Function):
    """`y = (weight ⊙ factors) x`, where the factors are formed in forward and again in backward: only `x` is kept.

    A quantised weight is formed so, too.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, host: nn.Module, scaling: Scaling, names: list[str], *values: Tensor) -> Tensor:
        weight = applied_weight(host, x.dtype)
        ctx.save_for_backward(x, weight if applies_its_weight(host) else None, *values)
        ctx.host, ctx.scaling, ctx.names = host, scaling, names
        with without_autocast(x.device):
            return F.linear(x, (weight * scaling.of(dict(zip(names, values, strict=True)))).to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *values = ctx.saved_tensors
        weight = applied_weight(ctx.host, x.dtype) if weight is None else weight
        of_x, _, _, _, *of_values = ctx.needs_input_grad
        with torch.enable_grad(), without_autocast(x.device):
            own = [value.detach().requires_grad_(needs) for value, needs in zip(values, of_values, strict=True)]
            factors = ctx.scaling.of(dict(zip(ctx.names, own, strict=True)))
            dx = dy @ (weight * factors.detach()).to(dy.dtype) if of_x else None
            found: tuple[Tensor | None, ...] = ()
            if trained := [value for value in own if value.requires_grad]:
                dweight = dy.flatten(0, -2).mT @ x.flatten(0, -2)
                found = torch.autograd.grad(factors, trained, (dweight * weight).to(factors.dtype), allow_unused=True)
        gradients = iter(found)
        return dx, None, None, None, *(next(gradients) if needs else None for needs in of_values)
