"""Stops at the first NaN or infinity, before it spoils the trained weights or the last checkpoint."""

import math
from collections.abc import Mapping

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from kronlit.config.user_error import UserError

CURE = (
    "Try a lower `model.lr`, `trainer.gradient_clip_val` 1, more `model.warmup` or `trainer.precision` 32-true, and "
    "look at those rows. The last checkpoint is from before: `ckpt_path` last goes on from it."
)


def check_loss(loss: Tensor, rows: Tensor, trainer: Trainer) -> None:
    """Raise `ValueError` on all processes, with the rows of the batch, if any process has a NaN or infinite loss."""
    if trainer.strategy.reduce_boolean_decision(bool(loss.isfinite())):
        return
    faults = [(loss.item(), rows.tolist())]
    if trainer.world_size > 1:
        everyone: list[tuple[float, list[int]]] = [(0.0, [])] * trainer.world_size
        torch.distributed.all_gather_object(everyone, faults[0])
        faults = everyone
    found = " and ".join(f"{value} for the training rows {rows}" for value, rows in faults if not math.isfinite(value))
    raise UserError(f"the loss is {found} at step {trainer.global_step}. {CURE}")


def check_weights(state: Mapping[str, Tensor], step: int) -> None:
    """Raise `ValueError` if `state` has a NaN or infinity, which a step can cause even if its loss was finite."""
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise UserError(f"{name} is no longer finite after step {step}: nothing of it is saved. {CURE}")
