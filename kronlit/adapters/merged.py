"""A frozen weight and a Kronecker product added to it, applied as one matrix."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from kronlit.structured.kronecker import pullback


class MergedKronecker(torch.autograd.Function):
    r"""`y = (weight + scale · A ⊗ B) x + bias`, for the price of the host's product and of forming one matrix.

    The matrix is formed in forward and again in backward, for the gradient of `x`; between them only the input is kept.
    The gradients of the factors are contracted from `x` and that of `y`, and the one of the whole matrix never is
    formed. In 16 bits the sum would round a small change away.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale = scale
        return F.linear(x, merged(weight, a, b, scale), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b = ctx.saved_tensors
        of_x, _, of_bias, of_a, of_b, _ = ctx.needs_input_grad
        dx = dy @ merged(weight, a, b, ctx.scale) if of_x else None
        dbias = dy.flatten(0, -2).sum(0) if of_bias else None
        da = db = None
        if of_a or of_b:
            _, da, db = pullback(x, a, b, dy, of_x=False)
            da, db = ctx.scale * da, ctx.scale * db
        return dx, None, dbias, da, db, None


def merged(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """`weight + scale · A ⊗ B`."""
    (a1, a2), (b1, b2) = a.shape, b.shape
    blocks = torch.addcmul(weight.reshape(a1, b1, a2, b2), a.view(a1, 1, a2, 1), b.view(1, b1, 1, b2), value=scale)
    return blocks.reshape(weight.shape)
