"""Shows on one line how far a run is: the epoch, the rate, the time left and the score so far."""

import datetime
import math
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

SCORE = "val/score"
DOING = {"sanity_check": "checking", "validate": "validating", "test": "testing", "predict": "predicting"}


class OneLineProgress(ProgressBar):
    """A bar that fits 80 columns, and a line for each epoch that ends.

    Without a terminal there is no bar, only the lines. The time left is that of the whole command, with the validations
    that are still to come, by the mean time of what this process has done so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bar = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            TextColumn("{task.fields[more]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            transient=True,
        )
        self.line = self.bar.add_task("", total=None, count="", more="")
        self.shows = True
        self.began = self.first = 0.0
        self.done = self.seen = 0
        self.since = 0.0

    def disable(self) -> None:
        self.shows = False

    def enable(self) -> None:
        self.shows = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.bar.disable = not (self.shows and self.bar.console.is_terminal)

    def print(self, *words: Any, **kwargs: Any) -> None:
        """Print a line above the bar."""
        if self.shows:
            text = kwargs.get("sep", " ").join(map(str, words))
            self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    # --- training ---

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began, self.done = time.monotonic(), 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.first = time.monotonic()
        self._show_training(trainer, trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.done += 1
        self._show_training(trainer, batch_idx + 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        taken = duration(time.monotonic() - self.first)
        loss = trainer.callback_metrics.get("train/loss")
        parts = [epoch_of(trainer), *([f"train/loss {float(loss):.3f}"] if loss is not None else [])]
        self.print(" · ".join([*parts, *score_so_far(trainer), taken]))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.stop()

    def _show_training(self, trainer: Trainer, batch: int) -> None:
        parts = score_so_far(trainer)
        if self.done:
            each = (time.monotonic() - self.began) / self.done
            left = batches_left(trainer, batch)
            parts = [f"{rate(1 / each)}", *([] if left is None else [f"{duration(left * each)} left"]), *parts]
        self._show(epoch_of(trainer), batch, trainer.num_training_batches, parts)

    # --- validation, test, prediction ---

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *rest: Any, **named: Any) -> None:
        self._count(trainer)

    def on_test_batch_end(self, trainer: Trainer, *rest: Any, **named: Any) -> None:
        self._count(trainer)

    def on_predict_batch_end(self, trainer: Trainer, *rest: Any, **named: Any) -> None:
        self._count(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.stop()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self.bar.stop()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.bar.stop()

    def _begin(self, trainer: Trainer) -> None:
        self.seen, self.since = 0, time.monotonic()
        self._show_evaluation(trainer)

    def _count(self, trainer: Trainer) -> None:
        self.seen += 1
        self._show_evaluation(trainer)

    def _show_evaluation(self, trainer: Trainer) -> None:
        stage = str(trainer.state.stage.value) if trainer.state.stage else ""
        batches = evaluation_batches(trainer, stage)
        parts = []
        if self.seen and math.isfinite(batches):
            each = (time.monotonic() - self.since) / self.seen
            parts = [rate(1 / each), f"{duration((batches - self.seen) * each)} left"]
        what = DOING.get(stage, stage)
        if stage == "validate" and trainer.state.fn == "fit":
            what = f"{epoch_of(trainer)}, {what}"
        self._show(what, self.seen, batches, parts)

    def _show(self, what: str, done: int, total: float, parts: list[str]) -> None:
        if self.bar.disable:
            return
        whole = int(total) if math.isfinite(total) else None
        count = f"{done}" if whole is None else f"{done}/{whole}"
        self.bar.start()
        # Drawn by itself ten times a second, which a short epoch may miss: its first and last state are drawn at once.
        now = what != self.bar.tasks[0].description or done == whole
        more = " · ".join(parts)
        self.bar.update(self.line, description=what, completed=done, total=whole, count=count, more=more, refresh=now)


def epoch_of(trainer: Trainer) -> str:
    """The epoch, counted from 1, of how many."""
    last = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else None
    return f"epoch {trainer.current_epoch + 1}" + ("" if last is None else f"/{last}")


def score_so_far(trainer: Trainer) -> list[str]:
    """The last validation's score, if there was one."""
    score = trainer.callback_metrics.get(SCORE)
    return [] if score is None else [f"{SCORE} {float(score):.3f}"]


def batches_left(trainer: Trainer, batch: int) -> float | None:
    """The batches of training that follow `batch` of this epoch; `None` if there is no end in sight."""
    ends = []
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        ends.append((trainer.max_epochs - trainer.current_epoch) * trainer.num_training_batches - batch)
    if trainer.max_steps > 0:
        ends.append((trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches)
    left = min(ends, default=math.inf)
    return max(0, left) if math.isfinite(left) else None


def evaluation_batches(trainer: Trainer, stage: str) -> float:
    """The batches of all loaders of an evaluation."""
    batches = {
        "sanity_check": trainer.num_sanity_val_batches,
        "validate": trainer.num_val_batches,
        "test": trainer.num_test_batches,
        "predict": trainer.num_predict_batches,
    }[stage]
    return sum(batches) if isinstance(batches, list) else batches


def rate(batches: float) -> str:
    """Batches per second, or seconds per batch where they are slow."""
    return f"{batches:.1f} batches/s" if batches >= 1 else f"{1 / batches:.1f} s/batch"


def duration(seconds: float) -> str:
    """A time such as 1:02:03 or 02:03."""
    text = str(datetime.timedelta(seconds=round(seconds)))
    return text.removeprefix("0:")


def progress(trainer: Any) -> list[OneLineProgress]:
    """The bar, unless the settings of a trainer have one of their own, or none."""
    own = any(isinstance(one, ProgressBar) for one in trainer.callbacks or [])
    return [] if own or trainer.enable_progress_bar is False else [OneLineProgress()]
