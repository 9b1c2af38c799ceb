"""The metrics of a task with labels. They are exact, however the rows were distributed over processes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import Tensor
from torchmetrics.functional.text import squad

from kronlit.config.user_error import UserError
from kronlit.data.tasks import Task
from kronlit.metrics.rows import ROW_METRICS, Array, Metric, macro_f1, mean_mark

TaskMetric = Callable[[Array, Array, Task, Array], Array]
"""From predictions, targets, the task and the groups of all rows to a score."""


class TaskMetrics(torchmetrics.Metric):
    """All metrics of a task, and `score`, the mean of those that select the checkpoint.

    Every row carries its index. Processes may see a row twice, because a short last batch is padded with repeats; it
    counts once.

    Args:
        task: the task; `task.metrics` are some of `METRICS`.

    Raises:
        ValueError: if the task has other metrics.
    """

    full_state_update = False
    row: list[Tensor]
    prediction: list[Tensor]
    target: list[Tensor]
    loss: list[Tensor]
    group: list[Tensor]

    def __init__(self, task: Task, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not set(task.metrics) <= METRICS.keys():
            raise UserError(f"{task.name!r} is scored on generated texts: use `CausalLM` or `TextToText`.")
        self.task = task
        for state in ("row", "prediction", "target", "loss", "group"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(
        self, row: Tensor, prediction: Tensor, target: Tensor, loss: Tensor, group: Tensor | None = None
    ) -> None:
        """Add rows.

        Args:
            row: index of each row, `(n,)`.
            prediction: the predicted label, -1 for none, `(n,)`; for free text the `squad_scores`, `(n, 2)`.
            target: the true label, `(n,)`.
            loss: the loss of each row, `(n,)`.
            group: number of the group that each row is scored with, `(n,)`; by default each row is its own group.
        """
        self.row.append(row)
        self.prediction.append(prediction.double())
        self.target.append(target.double())
        self.loss.append(loss.double())
        self.group.append(row if group is None else group)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what `compute` returns."""
        return (*self.task.metrics, "score", "loss")

    def compute(self) -> dict[str, Tensor]:
        rows = self._once()
        loss = rows["loss"].mean()
        prediction, target, group = (rows[name].cpu().numpy() for name in ("prediction", "target", "group"))
        scores = {name: METRICS[name](prediction, target, self.task, group) for name in self.task.metrics}
        values = {name: loss.new_tensor(score) for name, score in scores.items()}
        score = torch.stack([values[name] for name in self.task.selection or self.task.metrics]).mean()
        return values | {"score": score, "loss": loss}

    def scored_rows(self) -> dict[str, Tensor]:
        """All rows that were added on all processes since the last reset, without duplicates and in order."""
        with self.sync_context():
            return self._once()

    def _once(self) -> dict[str, Tensor]:
        rows = cat(self.row)
        order = torch.argsort(rows, stable=True)
        once = torch.ones_like(rows, dtype=torch.bool)
        once[1:] = rows[order][1:] != rows[order][:-1]
        kept = order[once]
        return {name: cat(getattr(self, name))[kept] for name in ("row", "prediction", "target", "loss", "group")}


def cat(state: list[Tensor] | Tensor) -> Tensor:
    """A metric's list state as one tensor; after synchronisation it is one already."""
    return state if isinstance(state, Tensor) else torch.cat(state)


def exact_match(prediction: Array, target: Array, task: Task, group: Array) -> Array:
    """The share of groups whose rows are all correct (for MultiRC: of questions)."""
    _, numbers = np.unique(group, return_inverse=True)
    return np.mean(np.bincount(numbers, prediction != target) == 0)


def of_rows(metric: Metric) -> TaskMetric:
    """A metric that asks neither for the task nor for groups."""
    return lambda prediction, target, task, group: metric(prediction, target)


def squad_scores(text: str, answers: list[str]) -> tuple[float, float]:
    """Word F1 and exact match: the best over all correct `answers`, normalised as in SQuAD and ReCoRD."""
    target = {"id": "0", "answers": {"text": answers, "answer_start": [0] * len(answers)}}
    values = squad({"id": "0", "prediction_text": text}, target)
    return values["f1"].item() / 100, values["exact_match"].item() / 100


METRICS: dict[str, TaskMetric] = {name: of_rows(metric) for name, metric in ROW_METRICS.items()} | {
    "macro_f1": lambda prediction, target, task, group: macro_f1(prediction, target, range(len(task.labels))),
    "exact_match": exact_match,
    "answer_f1": lambda prediction, target, task, group: mean_mark(prediction[:, 0], target),
    "answer_exact_match": lambda prediction, target, task, group: mean_mark(prediction[:, 1], target),
}
"""Scores of rows; classes of the task that are neither predicted nor there count as 0 in macro F1."""
