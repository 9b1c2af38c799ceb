"""What a training that goes on from a checkpoint keeps, and what another length makes of its schedule."""

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch.optim.lr_scheduler import LambdaLR

from kronlit.adapters.state import adapter_state
from kronlit.config.user_error import UserError

FIXED = ("lr", "weight_decay", "warmup")
"""Settings that the optimizer's state, which the checkpoint has, would pass over or bend."""


def settings(module: LightningModule) -> dict[str, float]:
    """What a checkpoint keeps of a module's settings, and the steps that its training has in all."""
    kept = {name: getattr(module, name) for name in FIXED}
    steps = module.trainer.estimated_stepping_batches
    return kept | ({"steps": int(steps)} if math.isfinite(steps) else {})  # a job of one's own may need no end


def check_settings(module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Raise `ValueError` where a training is to go on with other settings than it was begun with."""
    begun = checkpoint.get("kronlit", {}).get("settings", {})
    for name in FIXED:
        ours = getattr(module, name)
        if (theirs := begun.get(name, ours)) != ours:
            raise UserError(
                f"`model.{name}`={ours}: the training in the checkpoint was begun with {theirs}, and goes on with "
                "that; give it again, or `kronlit export` the run and give that folder as `init_adapter`, for a run "
                "of its own."
            )


def check_order(module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Raise `ValueError` where the optimizer's state, which goes by order, would go to other parameters."""
    if list(checkpoint["state_dict"]) != list(adapter_state(module)):
        raise UserError(
            "the checkpoint was written with a version of transformers whose modules stand in another order: it "
            "can be evaluated, not trained on; install that version again."
        )


def fit_schedule(trainer: Trainer, before: float | None) -> None:
    """Put the learning rate where a schedule of another length than `before` has it, and say so."""
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
        f"learning rate goes on at {schedule.optimizer.param_groups[0]['lr']:g}, where it was {old:g}, and falls to 0 "
        "at the new end."
    )
