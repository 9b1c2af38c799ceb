"""Your own rows of text, each with a label."""

import re
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from lightning.pytorch.utilities import rank_zero_only

from kronlit.config.user_error import UserError
from kronlit.data.class_counts import class_counts
from kronlit.data.labelled_rows import EmptyRows, labelled_rows
from kronlit.data.own_files import OwnFiles
from kronlit.data.row_file import RowFile
from kronlit.data.rows import check_rows
from kronlit.data.tasks import Task, option_values

Metric = Literal["accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman"]

OF_NUMBERS: tuple[Metric, ...] = ("pearson", "spearman")
FEW, MANY = 20, 1000
"""More classes than `MANY`, or more than both `FEW` and half the rows, mean that the column holds something else."""
LONGEST_NUMBER = 4300
"""The most digits that Python reads as a whole number."""


class TextFiles(OwnFiles):
    """Your own rows of one or more texts and a label.

    Args:
        train: what to train on: a .csv with a header, .jsonl or .parquet file, a folder with files named after the
            splits, or a data set of the hub, `org/name`, with `/configuration`, `@revision` or `:split` after it.
        columns: the columns that hold text; a classifier takes one or two.
        label: the column that holds the label.
        labels: names of the classes, in the order of the model's outputs; by default those that the file names itself,
            as parquet may, or those of the training rows, sorted. Quote labels such as 'No' in a YAML.
        span: smallest and largest label, if the label is a number and not a class.
        metrics: the metrics, whose mean selects the checkpoint. The default is accuracy; for numbers, pearson and
            spearman. For classes there are also f1 (of the second of two classes), macro_f1 and matthews.
        empty_rows: refuse or skip rows that have no label, or no text in any of the columns.
        **kwargs: what `OwnFiles` takes.
    """

    def __init__(
        self,
        train: str,
        validation: float | str = 0.1,
        test: float | str | None = None,
        columns: tuple[str, ...] = ("text",),
        label: str = "label",
        labels: tuple[str, ...] | None = None,
        span: tuple[float, float] | None = None,
        metrics: tuple[Metric, ...] | None = None,
        split_seed: int = 42,
        *,
        empty_rows: EmptyRows = "refuse",
        **kwargs: Any,
    ) -> None:
        self.columns = columns
        self.label = label
        self.empty_rows = empty_rows
        self.needed = f"the columns {', '.join((*columns, label))}"
        check_columns(columns, label)
        if span is not None:
            check_span(span, labels)
            labels = ()
        elif labels is None:
            labels = self._find_labels(train)
        check_classes(labels, span)
        task = Task(
            Path(train).stem,
            columns,
            labels,
            metrics or (("accuracy",) if labels else OF_NUMBERS),
            source=option_values(*columns),
            span=span or (0.0, 0.0),
        )
        check_metrics(task)
        super().__init__(task, train, validation, test, split_seed, **kwargs)

    def parse(self, file: RowFile, labelled: bool) -> dict[str, list[Any]]:
        if not labelled:
            return {column: file.texts(column) for column in self.columns}
        file, found, empty = labelled_rows(file, self.columns, self.label, self.task.labels, self.empty_rows)
        if empty:
            rank_zero_only(print)(f"{empty[0]}: the first of {len(empty)} empty rows, which are skipped.")
        table: dict[str, list[Any]] = {column: file.texts(column) for column in self.columns}
        first = {text: row for row, text in reversed(list(enumerate(found)))}
        numbers = {text: self._label(text, file.where(row)) for text, row in sorted(first.items(), key=itemgetter(1))}
        return table | {"label": [numbers[text] for text in found]}

    def check(self, rows: Dataset, where: str) -> None:
        check_rows(rows, self.task, where)

    def _find_labels(self, train: str) -> tuple[str, ...]:
        """The classes that the training rows name, or else those that they have."""
        if Path(train).suffix.lower() in self.suffixes and not Path(train).exists():
            raise UserError(
                f"`data.train`={train!r}: there is no such file to learn the classes from; give the file, or the "
                "classes, in their order, as `data.labels`."
            )
        files = self.read_files(train, "train")
        if named := files[0].classes.get(self.label):
            return named
        labels = [labelled_rows(file, self.columns, self.label, (), self.empty_rows)[1] for file in files]
        return find_classes([text for found in labels for text in found], train, self.label)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.task.labels:
            rank_zero_only(print)(
                class_counts(self.task.labels, {split: self._labels(split) for split in self.splits()})
            )

    def _labels(self, split: str) -> list[int]:
        return list(self.rows(split)["label"][:])

    def _label(self, text: str, where: str) -> float:
        """A label as a number."""
        where = f"{where}: the label {text!r}"
        if not self.task.is_regression:
            if text not in self.task.labels:
                raise UserError(f"{where} is none of {', '.join(self.task.labels)}.")
            return self.task.labels.index(text)
        try:
            return float(text)
        except ValueError:
            raise UserError(f"{where} is no number, which `data.span` says it is.") from None


def find_classes(labels: list[str], path: str, label: str) -> tuple[str, ...]:
    """The distinct labels, sorted (as numbers if all are whole); `ValueError` if they look like a mistake."""
    found = set(labels)
    if len(found) == 1:
        raise UserError(
            f"{path!r} has one label alone, {labels[0]!r}, in column {label!r}: give rows of two or more classes, or "
            "all classes as `data.labels`."
        )
    alike: dict[str, str] = {}
    for one in sorted(found):
        if (other := alike.setdefault(one.casefold(), one)) != one:
            raise UserError(
                f"{path!r} has labels in column {label!r} that differ in their case alone, {other} and {one}: write "
                "them alike, or give `data.labels` if they are classes of their own."
            )
    if len(found) > min(MANY, max(FEW, len(labels) // 2)):
        raise UserError(
            f"{path!r} has {len(found)} different labels in {len(labels)} rows of column {label!r}: give `data.span` "
            "if they are numbers, or `data.labels` if they are classes indeed."
        )
    whole = all(one.removeprefix("-").isdecimal() and len(one) < LONGEST_NUMBER for one in found)
    return tuple(sorted(found, key=lambda one: (int(one), one)) if whole else sorted(found))


def check_columns(columns: tuple[str, ...], label: str) -> None:
    """Raise `ValueError` unless there is at least one column, without duplicates and without the label."""
    if not columns or len(set(columns)) < len(columns):
        raise UserError(f"`data.columns`={list(columns)} must name one column of text or more, each once.")
    if label in columns:
        raise UserError(f"`data.columns`={list(columns)} has {label!r}, which `data.label` says is the label.")
    for column in columns:
        if re.search(r"[{}\[\].:!]", column) or column.isdecimal():  # these have a meaning in `str.format`
            raise UserError(f"`data.columns`: {column!r} must be a name without {{}}[].:! in it: rename the column.")


def check_span(span: tuple[float, float], labels: tuple[str, ...] | None) -> None:
    """Raise `ValueError` unless the span is valid: increasing, without -1, and without `labels`."""
    if labels is not None:
        raise UserError("`data.span` is for numbers and `data.labels` for classes: give one of them.")
    if not span[0] < span[1]:
        raise UserError(f"`data.span`={list(span)} must be the least and the greatest label.")
    if span[0] <= -1 <= span[1]:
        raise UserError(f"`data.span`={list(span)} has -1 in it, which stands for a hidden label: shift the labels.")


def check_classes(labels: tuple[str, ...], span: tuple[float, float] | None) -> None:
    """Raise `ValueError` unless there are at least two classes, without duplicates."""
    if span is None and (len(labels) < 2 or len(set(labels)) < len(labels)):
        raise UserError(f"`data.labels`={list(labels)} must be two or more classes, each once.")


def check_metrics(task: Task) -> None:
    """Raise `ValueError` unless the metrics suit the labels."""
    for metric in task.metrics:
        if (metric in OF_NUMBERS) != task.is_regression or (metric == "f1" and len(task.labels) != 2):
            kind = "numbers" if task.is_regression else f"{len(task.labels)} classes"
            raise UserError(f"`data.metrics`={list(task.metrics)}: {metric} is not for {kind}.")
