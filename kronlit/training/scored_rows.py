"""Writes the scored rows to a file, for significance tests over examples."""

import csv
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from kronlit.config.user_error import UserError
from kronlit.metrics.classification import TaskMetrics


class ScoredRows(Callback):
    """Writes row, prediction and target of all rows that `test` or the command `validate` scores.

    The file is `test_rows.csv`; for `validate` it is `val_rows.csv`, and one `val_<name>_rows.csv` for each further
    validation set. A prediction of -1 means that the text stood for no label. Free answers have no labels; their rows
    have the marks `answer_f1` and `answer_exact_match`.

    Args:
        folder: the folder to write to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        module = cast(Any, pl_module)
        if not isinstance(module.test_metrics, TaskMetrics):
            raise UserError(
                f"`scored_rows`=true: {module.task.name!r} is scored on all its texts together, not row by row; leave "
                "it out."
            )

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write("test", cast(Any, pl_module).test_metrics, trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "validate":
            return  # validations within fit are not of the best checkpoint
        module = cast(Any, pl_module)
        names = ("val", *(f"val_{name}" for name in module.task.validation))
        for name, metrics in zip(names, module.val_metrics, strict=True):
            self._write(name, metrics, trainer)

    def _write(self, name: str, metrics: TaskMetrics, trainer: Trainer) -> None:
        if not metrics.update_called:
            return
        rows = metrics.scored_rows()
        if not trainer.is_global_zero:
            return
        columns = {"row": rows["row"].tolist()}
        if metrics.task.free_text:
            columns["answer_f1"], columns["answer_exact_match"] = rows["prediction"].mT.tolist()
        else:
            columns |= {column: rows[column].tolist() for column in ("prediction", "target")}
        if not rows["group"].equal(rows["row"]):
            columns["group"] = rows["group"].tolist()
        path = self.folder / f"{name}_rows.csv"
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        partial.replace(path)
