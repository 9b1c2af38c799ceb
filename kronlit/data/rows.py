"""Rows from files, and what every row must have."""

import csv
import json
from pathlib import Path
from typing import Any

from datasets import Dataset

from kronlit.data.tasks import Task


def read_rows(path: str | Path, task: Task) -> Dataset:
    """The text columns of `task` from a CSV or JSONL file.

    Raises:
        ValueError: if the file is missing, of another kind, empty, or lacks a column.
    """
    rows = read_lines(path, columns(task))
    return Dataset.from_dict({column: texts(rows, column, path) for column in task.columns})


def read_lines(path: str | Path, needed: str) -> list[dict[str, Any]]:
    """The rows of a CSV or JSONL file, which must have `needed`.

    Raises:
        ValueError: if the file is missing, of another kind, or empty.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}; give a .csv or .jsonl file with {needed}.")
    if path.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"{str(path)!r} must be a .csv or .jsonl file with {needed}.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # Excel begins a CSV with a byte-order mark
            rows: list[dict[str, Any]] = (
                list(csv.DictReader(file))
                if path.suffix == ".csv"
                else [json.loads(line) for line in file if line.strip()]
            )
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as UTF-8 {path.suffix[1:]}: {error}; save it as UTF-8."
        ) from error
    if not rows:
        raise ValueError(f"{str(path)!r} has no rows; it needs at least one, with {needed}.")
    return rows


def texts(rows: list[dict[str, Any]], column: str, path: str | Path) -> list[str]:
    """A column of the rows of a file.

    Raises:
        ValueError: if a row has no text there.
    """
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            has = ", ".join(map(str, row)) if isinstance(row, dict) else repr(row)
            raise ValueError(f"{str(path)!r}, row {number}: no text in column {column!r}; it has {has}.")
    return [row[column] for row in rows]


def columns(task: Task) -> str:
    """The columns of a task, for a message."""
    return ("the column " if len(task.columns) == 1 else "the columns ") + ", ".join(task.columns)


def check_rows(rows: Dataset, task: Task, where: str) -> None:
    """Raise `ValueError` unless `rows` has the columns of `task` and labels of its range (-1: hidden)."""
    needed = (*task.columns, "answers" if task.free_text else "label")
    if missing := [column for column in needed if column not in rows.column_names]:
        raise ValueError(f"{where} has no column {missing[0]!r}; it has {', '.join(rows.column_names)}.")
    if not len(rows):
        raise ValueError(f"{where} has no rows.")
    for column in task.columns:
        if rows.features[column].dtype not in ("string", "large_string"):
            raise ValueError(f"{where}: column {column!r} must hold text, not {rows.features[column].dtype}.")
        if rows.data.column(column).null_count:
            raise ValueError(f"{where}: column {column!r} is empty in {rows.data.column(column).null_count} rows.")
    if not task.free_text:
        check_numbers(rows, task, where)


def check_numbers(rows: Dataset, task: Task, where: str) -> None:
    """Raise `ValueError` unless all labels are numbers of the task's range, or -1."""
    kind, kinds = rows.features["label"].dtype, ("int", "uint", "float") if task.is_regression else ("int", "uint")
    if not kind.startswith(kinds):
        raise ValueError(
            f"{where}: column 'label' must hold numbers{'' if task.is_regression else ', whole ones'}, not {kind}."
        )
    labels = set(rows["label"])
    if None in labels or any(label != label for label in labels):
        raise ValueError(f"{where} has rows without a label.")
    low, high = task.span if task.is_regression else (0, len(task.labels) - 1)
    if bad := [label for label in labels if label != -1 and not low <= label <= high]:
        names = f" ({', '.join(task.labels)})" if task.labels else ""
        raise ValueError(f"{where} has the label {min(bad)}; {task.name} has {low} to {high}{names}.")
