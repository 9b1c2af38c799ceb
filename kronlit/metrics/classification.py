"""From a task's predictions to its metrics, exact however the rows were spread over processes."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional import matthews_corrcoef, pearson_corrcoef, spearman_corrcoef
from torchmetrics.functional.classification import binary_f1_score, multiclass_f1_score
from torchmetrics.functional.text import squad

from kronlit.data.tasks import Task


class TaskMetrics(Metric):
    """All metrics of a task, and as `score` the mean of those that select the checkpoint.

    Every row carries its index. Processes may see a row twice (a short last batch is filled up); it counts once.

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
            raise ValueError(f"{task.name!r} is scored on generated texts: use `CausalLM`.")
        self.task = task
        for state in ("row", "prediction", "target", "loss", "group"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(
        self, row: Tensor, prediction: Tensor, target: Tensor, loss: Tensor, group: Tensor | None = None
    ) -> None:
        """Add rows.

        Args:
            row: index of each, `(n,)`.
            prediction: its label, -1 where none was made out, `(n,)`; for free text its marks (see `marks`), `(n, 2)`.
            target: the true label, `(n,)`.
            loss: `(n,)`.
            group: number of the group that is scored together with it, `(n,)`; by default each row is its own.
        """
        self.row.append(row)
        self.prediction.append(prediction.double())
        self.target.append(target.double())
        self.loss.append(loss.double())
        self.group.append(row if group is None else group)

    @property
    def names(self) -> tuple[str, ...]:
        """Of what `compute` gives."""
        return (*self.task.metrics, "score", "loss")

    def compute(self) -> dict[str, Tensor]:
        rows = self._once()
        prediction, target, group = rows["prediction"], rows["target"], rows["group"]
        values = {name: METRICS[name](prediction, target, self.task, group) for name in self.task.metrics}
        score = torch.stack([values[name] for name in self.task.selection or self.task.metrics]).mean()
        return values | {"score": score, "loss": rows["loss"].mean()}

    def scored_rows(self) -> dict[str, Tensor]:
        """What was added on all processes since the last reset, each row once and in the rows' order."""
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
    """A metric's list state as one tensor; after a synchronisation it already is one."""
    return state if isinstance(state, Tensor) else torch.cat(state)


def accuracy(prediction: Tensor, target: Tensor, task: Task, group: Tensor) -> Tensor:
    """The share of right rows."""
    return (prediction == target).double().mean()


def f1(prediction: Tensor, target: Tensor, task: Task, group: Tensor) -> Tensor:
    """F1 of class 1; a row without a prediction counts as the opposite of its target (Compacter's code)."""
    prediction = torch.where(prediction < 0, 1 - target, prediction)
    return binary_f1_score(prediction, target.long()).double()


def matthews(prediction: Tensor, target: Tensor, task: Task, group: Tensor) -> Tensor:
    """Matthews' correlation coefficient; 0, as in scikit-learn, where predictions or targets are all the same."""
    prediction = torch.where(prediction < 0, len(task.labels), prediction)  # no prediction: a class of its own
    if (prediction == prediction[0]).all() or (target == target[0]).all():
        return prediction.new_zeros(())
    num_classes = len(task.labels) + 1
    return matthews_corrcoef(prediction.long(), target.long(), "multiclass", num_classes=num_classes).double()


def pearson(prediction: Tensor, target: Tensor, task: Task, group: Tensor) -> Tensor:
    """Pearson's correlation; 0 where it is undefined."""
    return (
        torch.nan_to_num(pearson_corrcoef(prediction, target)) if varies(prediction, target) else target.new_zeros(())
    )


def spearman(prediction: Tensor, target: Tensor, task: Task, group: Tensor) -> Tensor:
    """Spearman's rank correlation; 0 where it is undefined."""
    return spearman_corrcoef(prediction, target) if varies(prediction, target) else target.new_zeros(())


def varies(prediction: Tensor, target: Tensor) -> bool:
    """Whether a correlation is defined."""
    return bool((prediction != prediction[0]).any() and (target != target[0]).any())


def macro_f1(prediction: Tensor, target: Tensor, task: Task, group: Tensor) -> Tensor:
    """Mean over the classes of their F1, 0 for a class that is neither predicted nor there (CB)."""
    classes = len(task.labels)
    prediction = torch.where(prediction < 0, classes, prediction)  # no prediction: a class of its own
    each = multiclass_f1_score(prediction.long(), target.long(), classes + 1, average="none")
    return each[:classes].double().mean()


def exact_match(prediction: Tensor, target: Tensor, task: Task, group: Tensor) -> Tensor:
    """The share of groups whose rows are all right (MultiRC: of questions)."""
    _, numbers = torch.unique(group, return_inverse=True)
    wrong = torch.zeros(int(numbers.max()) + 1, device=group.device, dtype=torch.float64)
    return (wrong.index_add_(0, numbers, (prediction != target).double()) == 0).double().mean()


def answer_f1(prediction: Tensor, target: Tensor, task: Task, group: Tensor) -> Tensor:
    """Mean F1 of the words of free answers."""
    return prediction[:, 0].mean()


def answer_exact_match(prediction: Tensor, target: Tensor, task: Task, group: Tensor) -> Tensor:
    """The share of free answers that are right to the word."""
    return prediction[:, 1].mean()


def marks(text: str, answers: list[str]) -> tuple[float, float]:
    """F1 of words and exact match, the best over all right `answers`, as SQuAD and ReCoRD normalise them."""
    target = {"id": "0", "answers": {"text": answers, "answer_start": [0] * len(answers)}}
    values = squad({"id": "0", "prediction_text": text}, target)
    return values["f1"].item() / 100, values["exact_match"].item() / 100


METRICS = {
    "accuracy": accuracy,
    "f1": f1,
    "f1a": f1,  # MultiRC: over all answers
    "macro_f1": macro_f1,
    "exact_match": exact_match,
    "answer_f1": answer_f1,
    "answer_exact_match": answer_exact_match,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}
