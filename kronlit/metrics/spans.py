"""Scores of tags, token by token and span by span: conlleval's rules (Tjong Kim Sang and De Meulder, 2003, CoNLL)."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torchmetrics import Metric

from kronlit.data.tasks import OUTSIDE, Task
from kronlit.metrics.generation import gather_rows

Span = tuple[str, int, int]
"""The type of a span, its first token and its last one."""


class TagMetrics(Metric):
    """All metrics of a task of tags over a split, and the loss per token.

    Rows are gathered from all processes, and each counts once. A token without a prediction, as it lies beyond the
    longest input, counts as wrong, and as outside of every span.

    Args:
        task: the task; `task.metrics` are some of `METRICS`.
    """

    full_state_update = False

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.rows: dict[int, tuple[float, int, list[int], list[int]]] = {}

    def update(
        self, row: Tensor, loss: Tensor, tokens: Tensor, predictions: list[list[int]], targets: list[list[int]]
    ) -> None:
        """Add rows.

        Args:
            row: index of each row, `(n,)`.
            loss: sum of the loss over its tokens that the model reads, `(n,)`.
            tokens: number of these tokens, `(n,)`.
            predictions: the tag of each token by its number, -1 for none.
            targets: the true tag of each token.
        """
        columns = (loss.tolist(), tokens.tolist(), predictions, targets)
        self.rows |= dict(zip(row.tolist(), zip(*columns, strict=True), strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what `compute` returns."""
        return (*self.task.metrics, "score", "loss")

    def compute(self) -> dict[str, Tensor]:
        rows = gather_rows(self.rows)
        losses, tokens, predictions, targets = zip(*(rows[row] for row in sorted(rows)), strict=True)
        found = scores(self.task, predictions, targets)
        values = {name: found[name] for name in self.task.metrics}
        selected = self.task.selection or self.task.metrics
        values["score"] = math.fsum(values[name] for name in selected) / len(selected)
        values["loss"] = math.fsum(losses) / max(sum(tokens), 1)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def reset(self) -> None:
        super().reset()
        self.rows = {}


def scores(task: Task, predictions: tuple[list[int], ...], targets: tuple[list[int], ...]) -> dict[str, float]:
    """Accuracy of tokens, and precision, recall and F1 of spans over all rows; 0 where there is none to count."""
    labels = (*task.labels, OUTSIDE)  # the last one is for -1
    shared = ours = theirs = right = total = 0
    for prediction, target in zip(predictions, targets, strict=True):
        right += sum(one == other for one, other in zip(prediction, target, strict=True))
        total += len(target)
        found, true = (set(spans([labels[tag] for tag in row])) for row in (prediction, target))
        shared, ours, theirs = shared + len(found & true), ours + len(found), theirs + len(true)
    return {
        "accuracy": right / max(total, 1),
        "span_precision": shared / max(ours, 1),
        "span_recall": shared / max(theirs, 1),
        "span_f1": 2 * shared / max(ours + theirs, 1),
    }


METRICS = ("span_f1", "span_precision", "span_recall", "accuracy")


def spans(tags: list[str]) -> Iterator[Span]:
    """The spans of a row of tags, such as `B-PER`; `B` alone is of the type `_`.

    A span begins wherever conlleval and seqeval's default see one: at a B or S, after an E or S, after O, and where the
    type changes. So IOB1, IOB2 and IOBES are read alike, and an I that follows nothing begins a span.
    """
    first, before, kind_before = 0, OUTSIDE, ""
    for number, tag in enumerate([*tags, OUTSIDE]):
        place, _, kind = tag.partition("-")
        kind = kind or ("" if place == OUTSIDE else "_")
        goes_on = before in "BI" and place in "IE" and kind == kind_before
        if before != OUTSIDE and not goes_on:
            yield kind_before, first, number - 1
        if not goes_on:
            first = number
        before, kind_before = place, kind
