"""One's own rows of text, from CSV or JSONL files."""

import itertools
import re
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset

from kronlit.data.rows import read_lines, texts
from kronlit.data.tasks import Task, named
from kronlit.data.text import TextData

Metric = Literal["accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman"]

OF_NUMBERS: tuple[Metric, ...] = ("pearson", "spearman")
FEW, MANY = 20, 1000
"""More classes than many, or than few and half the rows, are taken for a slip: a number, a text or an id as label."""


class TextFiles(TextData):
    """One's own rows, each a text or two and a label, from CSV files with a header or JSONL files, in UTF-8.

    Args:
        train: the file to train on.
        validation: the file to validate on, or the share of the training rows that is held out for it.
        test: the file to test on, or such a share; by default there is none.
        columns: the columns that hold text; a classifier takes one or two.
        label: the column that holds the label.
        labels: names of the classes, in the order of the model's outputs; by default those in the training file,
            sorted. Labels such as 'No' want quotes in a YAML.
        span: least and greatest label, where it is a number and not a class.
        metrics: what is scored; their mean selects the checkpoint. By default accuracy, or of numbers pearson and
            spearman; for classes there are also f1 (of the second of two classes), macro_f1 and matthews.
        split_seed: of what is held out.
        batch_size: rows a step, per device.
        eval_batch_size: rows a step in validation, test and prediction, per device.
        max_train_samples: train on no more rows than this, drawn with `sample_seed`.
        sample_seed: of that draw.
        predict_file: a file with the text columns to predict, in place of the test rows.
        num_workers: processes that make batches.
        max_tokens: tokens a training step, padding included, per device, in place of `batch_size`.
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
        batch_size: int = 32,
        eval_batch_size: int = 64,
        max_train_samples: int | None = None,
        sample_seed: int = 42,
        predict_file: str | None = None,
        num_workers: int = 0,
        max_tokens: int | None = None,
    ) -> None:
        self.files: dict[str, float | str | None] = {"train": train, "validation": validation, "test": test}
        self.label = label
        self.split_seed = split_seed
        check_columns(columns, label)
        self._check_shares()
        if span is not None:
            check_span(span, labels)
            labels = ()
        elif labels is None:
            if not Path(train).is_file():
                raise ValueError(
                    f"`data.train`={train!r}: there is no such file to learn the classes from; give the file, or the "
                    "classes, in their order, as `data.labels`."
                )
            labels = classes(label_texts(read_lines(train, f"the column {label}"), label, train), train, label)
        check_classes(labels, span)
        task = Task(
            Path(train).stem,
            columns,
            labels,
            metrics or (("accuracy",) if labels else OF_NUMBERS),
            source=named(*columns),
            span=span or (0.0, 0.0),
        )
        check_metrics(task)
        super().__init__(
            task, batch_size, eval_batch_size, max_train_samples, sample_seed, predict_file, num_workers, max_tokens
        )

    def _check_shares(self) -> None:
        shares = {split: value for split, value in self.files.items() if isinstance(value, float)}
        for split, share in shares.items():
            if not 0 < share < 1:
                raise ValueError(f"`data.{split}`={share} must be a file, or a share above 0 and below 1.")
        if sum(shares.values()) >= 1:
            raise ValueError(f"`data.validation`={shares['validation']} and `data.test`={shares['test']} leave no row.")

    def held_out(self, split: str) -> bool:
        return isinstance(self.files.get(split), float)

    def load(self, split: str) -> Dataset:
        file = self.files[split]
        if file is None:
            raise ValueError(
                f"there are no {split} rows: give a file or a share of the training rows as `data.{split}`."
            )
        if isinstance(file, str) and split != "train":
            return self._read(file)
        rows = self._read(str(self.files["train"]))
        return rows.select(self._parts(len(rows))[split])

    def _parts(self, rows: int) -> dict[str, list[int]]:
        """Numbers of the rows of the training file that are held out as validation and as test, and of the others."""
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(self.split_seed)).tolist()
        parts: dict[str, list[int]] = {}
        first = 0
        for split in ("validation", "test"):
            share = self.files[split]
            last = first + (max(1, round(share * rows)) if isinstance(share, float) else 0)
            parts[split], first = order[first:last], last
        return parts | {"train": sorted(order[first:])}

    def _read(self, path: str) -> Dataset:
        """The rows of a file, their labels as numbers."""
        rows = read_lines(path, f"the columns {', '.join((*self.task.columns, self.label))}")
        table: dict[str, list[Any]] = {column: texts(rows, column, path) for column in self.task.columns}
        found = label_texts(rows, self.label, path)
        return Dataset.from_dict(table | {"label": [self._label(one, path, n) for n, one in enumerate(found, 1)]})

    def _label(self, text: str, path: str, number: int) -> float:
        """A label as a number."""
        where = f"{path!r}, row {number}: the label {text!r}"
        if not self.task.is_regression:
            if text not in self.task.labels:
                raise ValueError(f"{where} is none of {', '.join(self.task.labels)}.")
            return self.task.labels.index(text)
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"{where} is no number, which `data.span` says it is.") from None


def label_texts(rows: list[dict[str, Any]], label: str, path: str) -> list[str]:
    """The labels of the rows of a file as they are written; `ValueError` where a row has none."""
    found = [row.get(label) if isinstance(row, dict) else None for row in rows]
    for number, value in enumerate(found, 1):
        if not isinstance(value, str | int | float) or not str(value).strip():
            there = rows[number - 1]
            has = ", ".join(map(str, there)) if isinstance(there, dict) else repr(there)
            raise ValueError(
                f"{path!r}, row {number}: no label in column {label!r}; it has {has}. `data.label` names the column; a "
                "CSV is separated by commas; rows without labels are for `data.predict_file`."
            )
    return [str(value).strip() for value in found]


def classes(labels: list[str], path: str, label: str) -> tuple[str, ...]:
    """The different labels, sorted, as numbers where all are whole ones; `ValueError` where they look like a slip."""
    found = set(labels)
    if len(found) == 1:
        raise ValueError(
            f"{path!r} has one label alone, {labels[0]!r}, in column {label!r}: give rows of two or more classes, or "
            "all classes as `data.labels`."
        )
    if alike := [two for two in itertools.combinations(sorted(found), 2) if two[0].casefold() == two[1].casefold()]:
        raise ValueError(
            f"{path!r} has labels in column {label!r} that differ in their case alone, {' and '.join(alike[0])}: write "
            "them alike, or give `data.labels` if they are classes of their own."
        )
    if len(found) > min(MANY, max(FEW, len(labels) // 2)):
        raise ValueError(
            f"{path!r} has {len(found)} different labels in {len(labels)} rows of column {label!r}: give `data.span` "
            "if they are numbers, or `data.labels` if they are classes indeed."
        )
    whole = all(one.removeprefix("-").isdecimal() for one in found)
    return tuple(sorted(found, key=lambda one: (int(one), one)) if whole else sorted(found))


def check_columns(columns: tuple[str, ...], label: str) -> None:
    """Raise `ValueError` unless the columns are some, each once, and not the label."""
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(f"`data.columns`={list(columns)} must name one column of text or more, each once.")
    if label in columns:
        raise ValueError(f"`data.columns`={list(columns)} has {label!r}, which `data.label` says is the label.")
    for column in columns:
        if re.search(r"[{}\[\].:!]", column) or column.isdecimal():  # they mean something in a text's template
            raise ValueError(f"`data.columns`: {column!r} must be a name without {{}}[].:! in it: rename the column.")


def check_span(span: tuple[float, float], labels: tuple[str, ...] | None) -> None:
    """Raise `ValueError` unless numbers can lie in the span."""
    if labels is not None:
        raise ValueError("`data.span` is for numbers and `data.labels` for classes: give one of them.")
    if not span[0] < span[1]:
        raise ValueError(f"`data.span`={list(span)} must be the least and the greatest label.")
    if span[0] <= -1 <= span[1]:
        raise ValueError(f"`data.span`={list(span)} has -1 in it, which stands for a hidden label: shift the labels.")


def check_classes(labels: tuple[str, ...], span: tuple[float, float] | None) -> None:
    """Raise `ValueError` unless there are classes to tell apart."""
    if span is None and (len(labels) < 2 or len(set(labels)) < len(labels)):
        raise ValueError(f"`data.labels`={list(labels)} must be two or more classes, each once.")


def check_metrics(task: Task) -> None:
    """Raise `ValueError` unless the metrics are of such labels."""
    for metric in task.metrics:
        if (metric in OF_NUMBERS) != task.is_regression or (metric == "f1" and len(task.labels) != 2):
            kind = "numbers" if task.is_regression else f"{len(task.labels)} classes"
            raise ValueError(f"`data.metrics`={list(task.metrics)}: {metric} is not for {kind}.")
