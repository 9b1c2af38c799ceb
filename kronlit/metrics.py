"""From a task's predictions to its metrics, exact however the rows were spread over processes."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional import matthews_corrcoef, pearson_corrcoef, spearman_corrcoef
from torchmetrics.functional.classification import binary_f1_score

from kronlit.data.tasks import Task


class TaskMetrics(Metric):
    """All metrics of a task, and their mean as `score`.

    Every row carries its index. Processes may see a row twice (a short last batch is filled up); it counts once.

    Args:
        task: the task; `task.metrics` are some of `accuracy`, `f1` (of class 1), `matthews`, `pearson`, `spearman`.
    """

    full_state_update = False
    row: list[Tensor]
    prediction: list[Tensor]
    target: list[Tensor]
    loss: list[Tensor]

    def __init__(self, task: Task, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.task = task
        for state in ("row", "prediction", "target", "loss"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, row: Tensor, prediction: Tensor, target: Tensor, loss: Tensor) -> None:
        """Add rows: their index, prediction (-1: none was made out), target and loss, each of shape `(n,)`."""
        self.row.append(row)
        self.prediction.append(prediction.double())
        self.target.append(target.double())
        self.loss.append(loss.double())

    def compute(self) -> dict[str, Tensor]:
        rows = cat(self.row)
        order = torch.argsort(rows, stable=True)
        rows = rows[order]
        once = torch.ones_like(rows, dtype=torch.bool)
        once[1:] = rows[1:] != rows[:-1]
        kept = order[once]
        prediction, target, loss = (cat(state)[kept] for state in (self.prediction, self.target, self.loss))
        values = {name: METRICS[name](prediction, target, self.task) for name in self.task.metrics}
        score = torch.stack(list(values.values())).mean()
        return values | {"score": score, "loss": loss.mean()}


def cat(state: list[Tensor] | Tensor) -> Tensor:
    """A metric's list state as one tensor; after a synchronisation it already is one."""
    return state if isinstance(state, Tensor) else torch.cat(state)


def accuracy(prediction: Tensor, target: Tensor, task: Task) -> Tensor:
    """The share of right rows."""
    return (prediction == target).double().mean()


def f1(prediction: Tensor, target: Tensor, task: Task) -> Tensor:
    """F1 of class 1; a row without a prediction counts as the opposite of its target (Compacter's code)."""
    prediction = torch.where(prediction < 0, 1 - target, prediction)
    return binary_f1_score(prediction, target.long()).double()


def matthews(prediction: Tensor, target: Tensor, task: Task) -> Tensor:
    """Matthews' correlation coefficient; 0, as in scikit-learn, where predictions or targets are all the same."""
    prediction = torch.where(prediction < 0, len(task.labels), prediction)  # no prediction: a class of its own
    if (prediction == prediction[0]).all() or (target == target[0]).all():
        return prediction.new_zeros(())
    num_classes = len(task.labels) + 1
    return matthews_corrcoef(prediction.long(), target.long(), "multiclass", num_classes=num_classes).double()


def pearson(prediction: Tensor, target: Tensor, task: Task) -> Tensor:
    """Pearson's correlation; 0 where it is undefined."""
    return (
        torch.nan_to_num(pearson_corrcoef(prediction, target)) if varies(prediction, target) else target.new_zeros(())
    )


def spearman(prediction: Tensor, target: Tensor, task: Task) -> Tensor:
    """Spearman's rank correlation; 0 where it is undefined."""
    return spearman_corrcoef(prediction, target) if varies(prediction, target) else target.new_zeros(())


def varies(prediction: Tensor, target: Tensor) -> bool:
    """Whether a correlation is defined."""
    return bool((prediction != prediction[0]).any() and (target != target[0]).any())


METRICS = {"accuracy": accuracy, "f1": f1, "matthews": matthews, "pearson": pearson, "spearman": spearman}
