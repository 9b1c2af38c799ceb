"""A Kronecker product added to what is there, `Y_t + s · A X_t Bᵀ`, in one kernel for GPUs.

What several products write to memory and read again stays on the chip: the forward pass reads x and y and writes the
sum, the backward pass reads x and dy and writes dx. Sums are float32, operands 16 bits. The kernels are written in
Triton. Their numbers were checked in its interpreter, and that they compile for A100 and H100; on a GPU they never ran.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

PROGRAMS = 512
"""Programs of a launch, each with its share of the tokens: a few for every multiprocessor."""


@triton.jit
def _forward(
    x_ptr, a_ptr, b_ptr, y_ptr, sum_ptr, scale, tokens, programs,
    a1: tl.constexpr, a2: tl.constexpr, b1: tl.constexpr, b2: tl.constexpr,
    A1: tl.constexpr, A2: tl.constexpr, B1: tl.constexpr, B2: tl.constexpr,
    B_FIRST: tl.constexpr,
):  # fmt: skip
    i, j, k, m = tl.arange(0, A1), tl.arange(0, A2), tl.arange(0, B1), tl.arange(0, B2)
    a = tl.load(a_ptr + i[:, None] * a2 + j[None, :], (i[:, None] < a1) & (j[None, :] < a2), 0.0)
    bt = tl.load(b_ptr + k[None, :] * b2 + m[:, None], (k[None, :] < b1) & (m[:, None] < b2), 0.0)  # Bᵀ
    x_at, x_there = j[:, None] * b2 + m[None, :], (j[:, None] < a2) & (m[None, :] < b2)
    y_at, y_there = i[:, None] * b1 + k[None, :], (i[:, None] < a1) & (k[None, :] < b1)
    for t in range(tl.program_id(0), tokens, programs):
        token = tl.cast(t, tl.int64)
        x = tl.load(x_ptr + token * (a2 * b2) + x_at, x_there, 0.0)
        if B_FIRST:
            change = tl.dot(a, tl.dot(x, bt, input_precision="ieee").to(a.dtype), input_precision="ieee")
        else:
            change = tl.dot(tl.dot(a, x, input_precision="ieee").to(a.dtype), bt, input_precision="ieee")
        y = tl.load(y_ptr + token * (a1 * b1) + y_at, y_there, 0.0)
        tl.store(sum_ptr + token * (a1 * b1) + y_at, (y + scale * change).to(y.dtype), y_there)


@triton.jit
def _backward(
    x_ptr, a_ptr, b_ptr, dy_ptr, dx_ptr, da_ptr, db_ptr, scale, tokens, programs,
    a1: tl.constexpr, a2: tl.constexpr, b1: tl.constexpr, b2: tl.constexpr,
    A1: tl.constexpr, A2: tl.constexpr, B1: tl.constexpr, B2: tl.constexpr,
    B_FIRST: tl.constexpr, OF_X: tl.constexpr,
):  # fmt: skip
    i, j, k, m = tl.arange(0, A1), tl.arange(0, A2), tl.arange(0, B1), tl.arange(0, B2)
    a_at, a_there = i[:, None] * a2 + j[None, :], (i[:, None] < a1) & (j[None, :] < a2)
    b_at, b_there = k[:, None] * b2 + m[None, :], (k[:, None] < b1) & (m[None, :] < b2)
    a, b = tl.load(a_ptr + a_at, a_there, 0.0), tl.load(b_ptr + b_at, b_there, 0.0)
    x_at, x_there = j[:, None] * b2 + m[None, :], (j[:, None] < a2) & (m[None, :] < b2)
    y_at, y_there = i[:, None] * b1 + k[None, :], (i[:, None] < a1) & (k[None, :] < b1)
    da, db = tl.zeros((A1, A2), tl.float32), tl.zeros((B1, B2), tl.float32)
    at, bt = tl.trans(a), tl.trans(b)
    for t in range(tl.program_id(0), tokens, programs):
        token = tl.cast(t, tl.int64)
        x = tl.load(x_ptr + token * (a2 * b2) + x_at, x_there, 0.0)
        dy = tl.load(dy_ptr + token * (a1 * b1) + y_at, y_there, 0.0)
        if B_FIRST:
            h = tl.dot(x, bt, input_precision="ieee").to(a.dtype)  # (a2, b1), and its gradient
            dh = tl.dot(at, dy, input_precision="ieee").to(a.dtype)
            da = tl.dot(dy, tl.trans(h), da, input_precision="ieee")
            db = tl.dot(tl.trans(dh), x, db, input_precision="ieee")
            dx = tl.dot(dh, b, input_precision="ieee")
        else:
            h = tl.dot(a, x, input_precision="ieee").to(a.dtype)  # (a1, b2), and its gradient
            dh = tl.dot(dy, b, input_precision="ieee").to(a.dtype)
            da = tl.dot(dh, tl.trans(x), da, input_precision="ieee")
            db = tl.dot(tl.trans(dy), h, db, input_precision="ieee")
            dx = tl.dot(at, dh, input_precision="ieee")
        if OF_X:
            tl.store(dx_ptr + token * (a2 * b2) + x_at, (scale * dx).to(x.dtype), x_there)
    # A sum of each program for itself: added up in a fixed order, the gradients are the same in every run.
    own = tl.program_id(0)
    tl.store(da_ptr + own * (a1 * a2) + a_at, scale * da, a_there)
    tl.store(db_ptr + own * (b1 * b2) + b_at, scale * db, b_there)


class FusedKroneckerAddition(torch.autograd.Function):
    """`y + scale · (A ⊗ B) x`, keeping x, A and B for the backward pass."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, a: Tensor, b: Tensor, scale: float, b_first: bool) -> Tensor:
        x, y = x.contiguous(), y.contiguous()
        ctx.save_for_backward(x, a, b)
        ctx.scale, ctx.b_first = scale, b_first
        # Not in place: y is a view of what its linear layer computed, and autograd would copy both of them.
        total = torch.empty_like(y)
        launch, tokens = layout(a, b), x.numel() // (a.shape[1] * b.shape[1])
        programs = min(PROGRAMS, tokens)
        if tokens:
            with torch.cuda.device_of(x):  # Triton launches on the current one
                _forward[(programs,)](x, a, b, y, total, scale, tokens, programs, B_FIRST=b_first, **launch)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, a, b = ctx.saved_tensors
        of_x = ctx.needs_input_grad[1]
        launch, tokens = layout(a, b), x.numel() // (a.shape[1] * b.shape[1])
        programs = min(PROGRAMS, tokens)
        own = dy.contiguous()
        dx = torch.empty_like(x) if of_x else None
        da, db = (torch.empty(programs, *factor.shape, device=x.device) for factor in (a, b))
        if tokens:
            where = x if dx is None else dx  # never written where x wants no gradient
            with torch.cuda.device_of(x):
                _backward[(programs,)](
                    x, a, b, own, where, da, db, ctx.scale, tokens, programs, B_FIRST=ctx.b_first, OF_X=of_x, **launch
                )
        return dy, dx, da.sum(0).to(a.dtype), db.sum(0).to(b.dtype), None, None


def fits(x: Tensor, a: Tensor, b: Tensor) -> bool:
    """Whether the device of `x` has tensor cores for bfloat16, and room for a program's factors and tokens at once."""
    if torch.version.hip is not None or torch.cuda.get_device_capability(x.device) < (8, 0):
        return False
    sizes = layout(a, b)
    numbers = sizes["A1"] * sizes["A2"] + sizes["B1"] * sizes["B2"]  # of both factors, in blocks
    room: int = getattr(torch.cuda.get_device_properties(x.device), "shared_memory_per_block_optin", 0)
    # The backward kernel takes nine bytes for each of them (147,456 bytes for two of 64 x 128 on an A100).
    return numbers <= 2 * 64 * 128 and room >= 9 * numbers


def layout(a: Tensor, b: Tensor) -> dict[str, int]:
    """The shapes of the factors, and of the blocks that hold them: powers of two, and of 16 at least."""
    sizes = dict(zip(("a1", "a2", "b1", "b2"), (*a.shape, *b.shape), strict=True))
    blocks = {name.upper(): max(16, triton.next_power_of_2(size)) for name, size in sizes.items()}
    return sizes | blocks | {"num_warps": 8 if max(blocks.values()) > 32 else 4}
