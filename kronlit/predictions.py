"""Predictions as a file, one line a row, in the rows' order, whatever processes made them."""

import csv
import json
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from kronlit.data.tasks import Task

OWN_COLUMNS = ("split", "label", "scores", "answer")
"""What is written of a row beside what it was read with, which gives way."""


class PredictionWriter(Callback):
    """Writes what tells a predicted row from others, such as its text, and its label and scores.

    Args:
        path: a .jsonl or .csv file that is not there yet.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".csv", ".jsonl"):
            raise ValueError(f"`predictions`={str(path)!r} must end in .jsonl or .csv.")
        if path.exists():
            raise ValueError(f"`predictions`={str(path)!r} exists already and is not overwritten: name a new file.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.partial").touch()  # before the work, not after it
        except OSError as error:
            raise ValueError(f"`predictions`={str(path)!r} cannot be written: {error.strerror}.") from error
        self.path = path
        self.scores: dict[tuple[int, int], Any] = {}

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
        scores = outputs["texts"] if "texts" in outputs else outputs["scores"].tolist()
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
        known = [data.identified(split) for split in data.predicted()]
        lines = [
            {"split": data.predicted()[index]}
            | {column: values[row] for column, values in known[index].items() if column not in OWN_COLUMNS}
            | labelled(data.task, scores[index, row])
            for index, row in sorted(scores)
        ]
        partial = self.path.with_name(f".{self.path.name}.partial")
        with partial.open("w", encoding="utf-8", newline="") as file:
            write_csv(file, lines) if self.path.suffix == ".csv" else write_jsonl(file, lines)
        partial.replace(self.path)
        print(f"{len(lines)} predictions in {self.path}")


def labelled(task: Task, scores: Any) -> dict[str, Any]:
    """The label, and the score of each class; for regression the number, for free text the answer."""
    if task.free_text:
        return {"answer": scores}
    if task.is_regression:
        return {"label": scores[0]}
    best = max(range(len(scores)), key=scores.__getitem__)
    return {"label": task.labels[best], "scores": dict(zip(task.labels, scores, strict=True))}


def write_jsonl(file: Any, lines: list[dict[str, Any]]) -> None:
    """One JSON object a line."""
    file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def write_csv(file: Any, lines: list[dict[str, Any]]) -> None:
    """One row a line, each class's score in a column of its own."""
    flat = [
        {key: value for key, value in line.items() if key != "scores"}
        | {f"score_{label}": score for label, score in line.get("scores", {}).items()}
        for line in lines
    ]
    writer = csv.DictWriter(file, list(flat[0]))
    writer.writeheader()
    writer.writerows(flat)
