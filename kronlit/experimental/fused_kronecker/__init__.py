"""KronA's product and the sum with its host's, `y + s · (A ⊗ B) x`, as one Triton kernel. It never ran on a GPU.

It is off unless asked for: by `--trainer.callbacks kronlit.experimental.fused_kronecker.FuseKronecker` on the command
line, by `fuse(model)` in a loop of your own.
"""

import importlib.util

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from kronlit.config.user_error import UserError
from kronlit.structured import Kronecker
from kronlit.structured.base import compute_dtype
from kronlit.structured.kronecker import applies_b_first

TRITON = importlib.util.find_spec("triton") is not None
"""Whether the kernels' compiler is there; it comes with torch's builds for GPUs."""


class FusedKronecker(Kronecker):
    """The same matrix, whose product is added by the kernel: on a GPU with tensor cores, in 16 bits, uncompiled."""

    def added_to(self, y: Tensor, x: Tensor, scale: float) -> Tensor:
        dtype = compute_dtype(x)
        if x.is_cuda and dtype.itemsize == 2 and y.dtype == dtype and not torch.compiler.is_compiling():
            from kronlit.experimental.fused_kronecker.kernels import FusedKroneckerAddition, fits

            if fits(x, self.a, self.b):
                a, b = self.a.to(dtype), self.b.to(dtype)
                total: Tensor = FusedKroneckerAddition.apply(y, x.to(dtype), a, b, scale, applies_b_first(a, b))
                return total
        return super().added_to(y, x, scale)


def fuse(model: nn.Module) -> None:
    """Let all Kronecker products in `model` use the kernel from now on. Their numbers stay.

    Raises:
        ValueError: without Triton.
    """
    if not TRITON:
        raise UserError("`FuseKronecker` needs Triton, which is not installed: `pip install triton`, or leave it out.")
    for module in model.modules():
        if type(module) is Kronecker:
            module.__class__ = FusedKronecker


class FuseKronecker(Callback):
    """Has all Kronecker products of a fit use the kernel."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fuse(pl_module)
