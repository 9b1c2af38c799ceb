"""Writes a last checkpoint at the end of a fit, from which it can resume with more epochs or time."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint


class SavesAtRest(Checkpoint):
    """Saves a checkpoint when a batch or an epoch is completely over, including its validation."""

    at_rest = False

    def save_at_rest(self, trainer: Trainer, path: str) -> None:
        """Write a checkpoint as of a trainer that has nothing left to do before the next batch."""
        self.at_rest = True
        trainer.save_checkpoint(path)
        self.at_rest = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.at_rest:
            put_at_rest(checkpoint, trainer.num_training_batches)


class EndOfFit(SavesAtRest):
    """Saves `last.ckpt` when a fit ends, by its epochs, steps or time, or because a callback stops it.

    Checkpoints of validations do not suffice: there may be no validation, or none at the end. And Lightning counts an
    epoch that was stopped half way as a whole one.

    Args:
        path: the file to write.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.stops = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # If gradients are being accumulated, wait for the step that uses them: checkpoints do not hold gradients.
        self.stops |= trainer.should_stop
        trainer.should_stop = self.stops and not is_accumulating(trainer, batch_idx)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save_at_rest(trainer, self.path)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.strategy.broadcast(not Path(self.path).exists()):  # `on_train_end` never ran: no epoch was left
            self.save_at_rest(trainer, self.path)


def is_accumulating(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the gradients of the last batch still wait for those of more batches."""
    return not trainer.is_last_batch and (batch_idx + 1) % trainer.accumulate_grad_batches != 0


def put_at_rest(checkpoint: dict[str, Any], batches: float) -> None:
    """Change the loops' state to that of a trainer between two batches or epochs, with nothing left to do.

    Args:
        checkpoint: checkpoint of a trainer whose batch, and any validation after it, have ended.
        batches: number of batches in an epoch.
    """
    loops = checkpoint["loops"]["fit_loop"]
    epoch, batch = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    checkpoint["epoch"] = max(0, epoch["current"]["ready"] - 1)
    if not batch["current"]["ready"]:
        return  # an epoch is about to begin
    over = batch["is_last_batch"] or batch["current"]["ready"] >= batches
    for count in (epoch["total"], epoch["current"]):
        count["processed"] = count["completed"] = count["ready"] - (0 if over else 1)
    if over:
        batch["is_last_batch"] = False
        batch["current"] = dict.fromkeys(batch["current"], 0)
