"""Applies a matrix that is cheap to form, without keeping it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class FormedProduct(torch.autograd.Function):
    """`y = Wx`, where W is formed from its generators in forward and again in backward: only `x` is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        form: Callable[..., Tensor],
        pullback: Callable[..., tuple[Tensor, ...]],
        *generators: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, *generators)
        ctx.form, ctx.pullback = form, pullback
        return F.linear(x, form(*generators).to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, *generators = ctx.saved_tensors
        dx = dy @ ctx.form(*generators).to(dy.dtype) if ctx.needs_input_grad[0] else None
        return dx, None, None, *ctx.pullback(x, dy, *generators)
