"""What is known of a task of a benchmark whose site scores predictions: GLUE and SuperGLUE."""

from dataclasses import dataclass, field
from typing import Literal

from kronlit.config.user_error import UserError
from kronlit.data.tasks.task import Task


@dataclass(frozen=True)
class Table:
    """The predictions of a test set, as a file of the zip that the benchmark's site scores.

    Args:
        name: of the file.
        rows: how many the test set has.
        split: the test set.
    """

    name: str
    rows: int
    split: str = "test"


@dataclass(frozen=True, kw_only=True)
class BenchmarkTask:
    """A task of a benchmark.

    Args:
        task: what a model needs to know of it.
        tables: of its test sets; none if it is no part of a submission.
        submitted: what the site reads for each class, in the order of the labels; by default their names.
        mahabadi: its splits in Mahabadi et al. (Compacter): `halves` of the development set as validation and test; a
            `thousand` training rows as validation and the development set as test; or official splits by our names for
            them. None of a test set alone.
        official: names of official splits by our names for them, where these differ.
        predicted_by: of a diagnostic test set, the task whose model predicts it.
    """

    task: Task
    tables: tuple[Table, ...] = ()
    submitted: tuple[str | int, ...] = ()
    mahabadi: Literal["halves", "thousand"] | dict[str, str] | None = None
    official: dict[str, str] = field(default_factory=dict)
    predicted_by: str | None = None

    def held_out(self, split: str) -> bool:
        """Whether a split of Mahabadi et al. is drawn by a seed."""
        return self.mahabadi == "halves" or (self.mahabadi == "thousand" and split == "validation")

    def submission(self, label: str | float) -> str | int:
        """A class as the site reads it.

        Raises:
            ValueError: if it is none of the task's.
        """
        labels = self.task.labels
        if label not in labels:
            raise UserError(f"{label!r} is no label of {self.task.name}, which has {', '.join(labels) or 'numbers'}.")
        return (self.submitted or labels)[labels.index(str(label))]
