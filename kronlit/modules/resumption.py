"""Checks that a resumed training keeps its settings, and fits its schedule to a new length."""

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch.optim.lr_scheduler import LambdaLR

from kronlit.adapters.state import adapter_state
from kronlit.config.user_error import UserError

FIXED = (
    *("lr", "weight_decay", "warmup"),
    *("optimizer", "optimizer_args", "schedule", "schedule_args", "head_lr", "lr_multipliers"),
    *("quantization", "double_quantization"),
)
"""Settings that must not change: the optimizer's state in the checkpoint would override or distort them, or belong to
other frozen weights."""
BEFORE: dict[str, Any] = {
    **{"optimizer": "AdamW", "optimizer_args": None, "schedule": "linear", "schedule_args": None},
    **{"head_lr": None, "lr_multipliers": None, "quantization": "none", "double_quantization": False},
}
"""What checkpoints of versions without these settings were trained with."""


def settings(module: LightningModule) -> dict[str, Any]:
    """The module's settings and the number of all training steps, for a checkpoint."""
    kept = {name: getattr(module, name) for name in FIXED}
    steps = module.trainer.estimated_stepping_batches
    return kept | ({"steps": int(steps)} if math.isfinite(steps) else {})  # a user's own module may train without end


def check_settings(module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Raise `ValueError` if a resumed training has other settings than at its start."""
    begun = BEFORE | checkpoint.get("kronlit", {}).get("settings", {})
    for name in FIXED:
        ours = getattr(module, name)
        if (theirs := begun.get(name, ours)) != ours:
            raise UserError(
                f"`model.{name}`={ours}: the training in the checkpoint was begun with {theirs}, and goes on with "
                "that; give it again, or `kronlit export` the run and give that folder as `init_adapter`, for a run "
                "of its own."
            )


def check_order(module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Raise `ValueError` if parameters are in another order: the optimizer's state goes by order, not by name."""
    if list(checkpoint["state_dict"]) != list(adapter_state(module)):
        raise UserError(
            "the checkpoint was written with a version of transformers whose modules stand in another order: it "
            "can be evaluated, not trained on; install that version again."
        )


def fit_schedule(trainer: Trainer, before: float | None) -> None:
    """Move the learning rate to the new schedule if the number of steps is not `before` any more, and print that."""
    if before is None:
        return
    steps = trainer.estimated_stepping_batches
    schedule = trainer.lr_scheduler_configs[0].scheduler if trainer.lr_scheduler_configs else None
    if steps == before or not math.isfinite(steps) or not isinstance(schedule, LambdaLR):
        return
    old = schedule.optimizer.param_groups[0]["lr"]
    for group, base, factor in zip(
        schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
    ):
        group["lr"] = base * factor(schedule.last_epoch)
    rank_zero_only(print)(
        f"the training has {int(steps)} steps now, where it had {int(before)}: from step {trainer.global_step} the "
        f"learning rate goes on at {schedule.optimizer.param_groups[0]['lr']:g}, where it was {old:g}, and the "
        "schedule now goes on to the new end."
    )
