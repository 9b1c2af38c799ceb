"""Frozen linear modules whose weight is stored in few bits, and formed again whenever it is multiplied by.

As in QLoRA: Dettmers et al., 2023, arXiv:2305.14314, section 3. What is added beside such a module is not quantised.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kronlit.structured.base import compute_dtype, without_autocast

FIRST = 100
"""How many numbers of a weight stand for it in a fingerprint."""


class QuantisedLinear(nn.Linear, ABC):
    """A frozen linear module with a quantised weight.

    A product forms the weight, and forms it again in the backward pass, so that one whole weight is in memory at once.
    A subclass says in `dequantised` what its bytes stand for. The bias is that of the module before, trained or not.

    Args:
        whole: the module whose weight is quantised; its bias is kept.
        codes: the bytes that stand for the weight, in a shape of the subclass's own.
        compute_dtype: the type that products are computed in; by default that of any other product there.
        scales: float32 tensors that give the bytes their values. They stay float32 when the model is converted.
    """

    def __init__(
        self, whole: nn.Linear, codes: Tensor, compute_dtype: torch.dtype | None = None, **scales: Tensor
    ) -> None:
        super().__init__(whole.in_features, whole.out_features, bias=False, device="meta")
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.bias = whole.bias
        self.compute_dtype = compute_dtype
        for name, scale in scales.items():
            self.register_buffer(name, scale, persistent=False)
        self.start = first_numbers(whole.weight)
        self.train(whole.training)

    @abstractmethod
    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """The weight, `(out_features, in_features)`."""

    def product(self, x: Tensor) -> Tensor:
        """The output without the bias."""
        y: Tensor = QuantisedProduct.apply(x.to(self.compute_dtype or compute_dtype(x)), self)
        return y.to(compute_dtype(x))

    def forward(self, x: Tensor) -> Tensor:
        y = self.product(x)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantisedLinear":
        scales = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, scale in scales.items():  # where they went, but as precise as they were
            moved = self._buffers[name]
            if scale is not None and moved is not None and moved.dtype != scale.dtype:
                self._buffers[name] = scale.to(moved.device)
        return self


class Int8Linear(QuantisedLinear):
    """A quantised module of 8 bits: each row of the weight is whole numbers times a scale of its own.

    Args:
        whole: the module whose weight is quantised.
        codes: whole numbers, `(out_features, in_features)`, int8.
        scale: the scale of each row, `(out_features, 1)`, float32.
        compute_dtype: as in `QuantisedLinear`.
    """

    scale: Tensor

    def __init__(
        self, whole: nn.Linear, codes: Tensor, scale: Tensor, compute_dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(whole, codes, compute_dtype, scale=scale)

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        return (self.weight * self.scale).to(dtype)


class QuantisedProduct(torch.autograd.Function):
    """The product with a quantised weight. Only the module is kept for the backward pass, which forms it again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: QuantisedLinear) -> Tensor:
        ctx.module = module
        with without_autocast(x.device):
            return F.linear(x, module.dequantised(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        return dy @ ctx.module.dequantised(dy.dtype), None


def first_numbers(weight: Tensor) -> Tensor:
    """The first numbers of a weight, in float32 on the CPU; none on the meta device."""
    start = weight.detach().flatten()[:FIRST]
    return start if start.is_meta else start.float().cpu()


def dequantise(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Make ordinary linear modules of the quantised ones in `model`, in place. `merge` then takes them.

    Their weights are what the quantised ones stand for, not what they were before: that is lost.

    Args:
        model: the model; what was added to it stays.
        dtype: the type of the weights.
    """
    whole: dict[int, nn.Module] = {}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, QuantisedLinear):
                if id(child) not in whole:
                    whole[id(child)] = plain(child, dtype)
                parent._modules[name] = whole[id(child)]


def plain(module: QuantisedLinear, dtype: torch.dtype) -> nn.Linear:
    """The ordinary module that computes what `module` does."""
    linear = nn.Linear(module.in_features, module.out_features, bias=False, device="meta")
    linear.weight = nn.Parameter(module.dequantised(dtype), requires_grad=False)
    linear.bias = module.bias
    return linear.train(module.training)
