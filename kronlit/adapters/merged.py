"""Applies a frozen weight and the structured matrix added to it as one matrix."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kronlit.structured.base import FusedUpdate


class MergedProduct(torch.autograd.Function):
    r"""`y = (weight + scale · W) x + bias`, for the price of the host's product and of forming one matrix.

    The matrix is formed in forward and again in backward, for the gradient of `x`; only the input is kept in between.
    The gradients of the generators of :math:`W` are contracted from `x` and the gradient of `y`, so the gradient of
    the whole matrix is never formed. Do not use it in 16 bits, where the sum would round away a small change.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: float,
        summand: FusedUpdate,
        *generators: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, *generators)
        ctx.scale, ctx.summand = scale, summand._replace(generators=())
        return F.linear(x, summand.added(weight, scale, *generators), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *generators = ctx.saved_tensors
        of_x, _, of_bias, _, _, *of_generators = ctx.needs_input_grad
        dx = dy @ ctx.summand.added(weight, ctx.scale, *generators) if of_x else None
        dbias = dy.flatten(0, -2).sum(0) if of_bias else None
        gradients: list[Tensor | None] = [None] * len(generators)
        if any(of_generators):
            gradients = [ctx.scale * gradient for gradient in ctx.summand.pullback(x, dy, *generators)]
        return dx, None, dbias, None, None, *gradients
