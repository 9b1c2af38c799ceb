"""Stops a training between two batches, after a signal or some epochs; it can resume as if it had never stopped."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from kronlit.training.end_of_fit import SavesAtRest
from kronlit.training.next_steps import go_on
from kronlit.training.paused import PAUSED
from kronlit.training.signals import STOPPED, TERMINATED, exit_code, listen, listen_in_training, stop_requested


class StopBetweenBatches(SavesAtRest):
    """Saves `last.ckpt` at the first good moment after a signal, and exits before the next batch.

    Lightning saves inside the signal handler, in the middle of a step, and loses a batch. Here all processes agree
    after each batch whether one of them was asked to stop. It does not save while a validation is still to come or
    gradients are half accumulated, because a run could not resume from there. As a `Checkpoint` callback, it runs after
    the checkpoint callbacks before it in the list, whose state it saves.

    Args:
        path: the file to write.
        epochs: stop after this epoch, too, and note that in the run's folder; `None` stops at signals alone.
    """

    def __init__(self, path: str, epochs: int | None = None) -> None:
        self.path = path
        self.epochs = epochs
        self.asked = self.saved = False
        self.code = STOPPED

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        listen_in_training()  # again: Lightning has just replaced our handler by one that broadcasts inside the signal

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        listen_in_training()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        listen()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.epochs is not None and trainer.current_epoch >= self.epochs:
            # It may have resumed from a checkpoint of this very moment, and so have saved nothing.
            self._note_pause(trainer.current_epoch)
            rank_zero_only(print)(f"paused after {trainer.current_epoch} epochs, as asked: {self.path}", flush=True)
            raise SystemExit(STOPPED)
        if self.saved:  # exit only here, because by now the metrics of that step are written too
            rank_zero_only(print)(f"asked to stop: saved {self.path} after step {trainer.global_step}.", flush=True)
            raise SystemExit(self.code)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.asked = trainer.strategy.reduce_boolean_decision(stop_requested(), all=False)
        if self.asked:  # only some of the processes may know which signal it was
            terminated = exit_code() != STOPPED
            self.code = TERMINATED if trainer.strategy.reduce_boolean_decision(terminated, all=False) else STOPPED
        paused = self.epochs is not None and trainer.is_last_batch and trainer.current_epoch + 1 >= self.epochs
        self.asked |= paused
        done = batch_idx + 1, trainer.fit_loop.total_batch_idx + 1
        validates = trainer.is_last_batch or any(number % (trainer.val_check_batch or 1) == 0 for number in done)
        if not validates and done[0] % trainer.accumulate_grad_batches == 0:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.asked and not self.saved:  # if no validation followed the epoch's last batch
            self.save_at_rest(trainer, self.path)
            self.saved = True

    def _save(self, trainer: Trainer) -> None:
        if self.asked:
            trainer.save_checkpoint(self.path)
            self.saved = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, (KeyboardInterrupt, SystemExit)):
            rank_zero_only(print)(go_on(Path(self.path).parents[1]), flush=True)

    @rank_zero_only
    def _note_pause(self, epochs: int) -> None:
        (Path(self.path).parents[1] / PAUSED).write_text(json.dumps({"epochs": epochs}) + "\n")
