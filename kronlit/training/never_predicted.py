"""Warns about classes that a model never predicts: it may have learned only the frequent ones."""

import sys
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from kronlit.data import TextFiles
from kronlit.data.class_counts import join_words
from kronlit.metrics.classification import TaskMetrics


class NeverPredicted(Callback):
    """Prints, after validation and test on `TextFiles`, which classes of the rows were never predicted."""

    def __init__(self) -> None:
        self.said = ""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._say(trainer, "validation", cast(Any, pl_module).val_metrics[0])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._say(trainer, "test", cast(Any, pl_module).test_metrics)

    def _say(self, trainer: Trainer, split: str, metrics: Any) -> None:
        own = isinstance(getattr(trainer, "datamodule", None), TextFiles)
        if not own or not isinstance(metrics, TaskMetrics) or not metrics.task.labels or not metrics.update_called:
            return
        rows = metrics.scored_rows()
        missed = sorted(set(rows["target"].tolist()) - set(rows["prediction"].tolist()))
        names = join_words(metrics.task.labels[int(label)] for label in missed)
        line = f"{split}: never predicted: {names}." if names else ""
        if trainer.is_global_zero and line and line != self.said:  # not the same line after each epoch
            print(line, file=sys.stderr)
        self.said = line
