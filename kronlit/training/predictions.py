"""Writes predictions to a file in the order of the rows, gathered from all processes."""

import csv
import errno
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from kronlit.config.user_error import UserError
from kronlit.data.tasks import Task

OWN_COLUMNS = ("split", "label", "scores", "answer", "tags")
"""Columns of the predictions; an input column of the same name is left out."""


class PredictionWriter(Callback):
    """Writes for each row what identifies it, such as its text, and the predicted label and scores.

    Args:
        path: a .jsonl or .csv file that does not exist yet.
        spare: a folder to write to if `path` cannot be written in the end.
    """

    def __init__(self, path: Path, spare: Path | None = None) -> None:
        self.path = path
        self.spare = spare
        self.scores: dict[tuple[int, int], Any] = {}
        self.known: list[dict[str, list[Any]]] = []
        if not getattr(rank_zero_only, "rank", 0):  # only the first process knows its folder
            self._check()

    def _check(self) -> None:
        if self.path.suffix not in (".csv", ".jsonl"):
            raise UserError(f"`predictions`={str(self.path)!r} must end in .jsonl or .csv.")
        if self.path.exists():
            raise UserError(f"`predictions`={str(self.path)!r} exists already and is not overwritten: name a new file.")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial_of(self.path).touch()  # finds out before the work whether the file can be written
        except OSError as error:
            raise UserError(f"`predictions`={str(self.path)!r} cannot be written: {error.strerror}.") from error

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = cast(Any, trainer).datamodule
        self.known = [
            data.row_identity(split) for split in data.predicted_splits()
        ]  # while the file is the one that was read

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if trainer.is_global_zero:
            partial_of(self.path).unlink(missing_ok=True)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        rows = outputs["row"].tolist()
        own = outputs.get("columns", outputs.get("texts"))
        scores = outputs["scores"].tolist() if own is None else own
        self.scores |= {(dataloader_idx, row): score for row, score in zip(rows, scores, strict=True)}

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        parts = [self.scores]
        if trainer.world_size > 1:
            parts = [{} for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(parts, self.scores)
        if not trainer.is_global_zero:
            return
        scores = {key: value for part in parts for key, value in part.items()}
        data = cast(Any, trainer).datamodule
        lines = [
            {"split": data.predicted_splits()[index]}
            | {column: values[row] for column, values in self.known[index].items() if column not in OWN_COLUMNS}
            | prediction_columns(data.task, scores[index, row])
            for index, row in sorted(scores)
        ]
        self._write(lines)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        """Write the predictions to `path`; if that fails, to a spare place, so that they are not lost.

        Raises:
            ValueError: if they are in a spare place, or nowhere.
        """
        others = [folder for folder in (self.spare, Path(tempfile.gettempdir())) if folder is not None]
        faults = []
        for path in (self.path, *(folder / f"predictions-{os.getpid()}{self.path.suffix}" for folder in others)):
            try:
                write_new(path, lines)
            except OSError as error:
                faults.append(f"{str(path)!r} cannot be written: {error.strerror}")
                continue
            if faults:
                raise UserError(f"`predictions`: {'; '.join(faults)}. All {len(lines)} of them are in {str(path)!r}.")
            print(f"{len(lines)} predictions in {path}")
            return
        raise UserError(f"`predictions`: {'; '.join(faults)}. They are lost: make room, and predict again.")


def partial_of(path: Path) -> Path:
    """The path of a file while it is being written."""
    return path.with_name(f".{path.name}.partial")


def write_new(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write predictions to a new file, completely or not at all.

    Half of a surrogate pair, which UTF-8 cannot encode, is written as an escape sequence, as in JSON.
    """
    partial = partial_of(path)
    try:
        with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            write_csv(file, lines) if path.suffix == ".csv" else write_jsonl(file, lines)
        if path.exists():
            raise FileExistsError(errno.EEXIST, "it exists by now", str(path))
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def prediction_columns(task: Task, scores: Any) -> dict[str, Any]:
    """The predicted label and the score of each class; for regression the number, for free text the answer.

    A job that gives columns of its own, as a dictionary, has them written as they are.
    """
    if isinstance(scores, dict):
        return scores
    if task.free_text:
        return {"answer": scores}
    if task.is_regression:
        return {"label": scores[0]}
    best = max(range(len(scores)), key=scores.__getitem__)
    return {"label": task.labels[best], "scores": dict(zip(task.labels, scores, strict=True))}


def write_jsonl(file: Any, lines: list[dict[str, Any]]) -> None:
    """Write one JSON object per line."""
    file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def as_cell(value: Any) -> Any:
    """A value as a cell of a CSV file: a list or dictionary as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def write_csv(file: Any, lines: list[dict[str, Any]]) -> None:
    """Write one row per line, with a column for each class's score."""
    flat = [
        {key: as_cell(value) for key, value in line.items() if key != "scores"}
        | {f"score_{label}": score for label, score in line.get("scores", {}).items()}
        for line in lines
    ]
    writer = csv.DictWriter(file, list(flat[0]))
    writer.writeheader()
    writer.writerows(flat)
