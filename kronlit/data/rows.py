"""Reads a task's rows from files, and checks them."""

from pathlib import Path
from typing import Any

from datasets import Dataset

from kronlit.config.user_error import UserError
from kronlit.data.row_file import RowFile, read_row_file, shorten
from kronlit.data.tasks import Task


def read_rows(path: str | Path, task: Task) -> Dataset:
    """The text columns of `task` from a CSV or JSONL file.

    Raises:
        ValueError: if the file is missing, of another kind, empty, or lacks a column.
    """
    file = read_row_file(path, name_columns(task))
    return Dataset.from_dict({column: file.texts(column) for column in task.columns})


def read_labelled_rows(path: str | Path, task: Task) -> Dataset:
    """The text columns of `task` and `label` from a CSV or JSONL file: the class's number or name, -1 if it is hidden.

    Raises:
        ValueError: as in `read_rows`, or if a label is not one of the task's.
    """
    file = read_row_file(path, f"{name_columns(task)} and label")
    table: dict[str, list[Any]] = {column: file.texts(column) for column in task.columns}
    file.check_column("label", "label")
    return Dataset.from_dict(table | {"label": [parse_label(file, row, task) for row in range(len(file.lines))]})


def parse_label(file: RowFile, row: int, task: Task) -> float:
    """The label of a row as a number; `ValueError` if it is not one of the task's."""
    value = file.columns["label"][row]
    if isinstance(value, str) and value.strip() in task.labels:
        return task.labels.index(value.strip())
    try:
        number = float(value)
        if number.is_integer() or task.is_regression:
            return number if task.is_regression else int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    kinds = "a number" if task.is_regression else f"one of {', '.join(task.labels)}, or its number, from 0"
    raise UserError(f"{file.where(row)}: the label {shorten(value)} must be {kinds}.")


def name_columns(task: Task) -> str:
    """The columns of a task, for a message."""
    return ("the column " if len(task.columns) == 1 else "the columns ") + ", ".join(task.columns)


def check_rows(rows: Dataset, task: Task, where: str) -> None:
    """Raise `ValueError` unless `rows` has the columns of `task`, and labels in its range or -1 (hidden)."""
    needed = (*task.columns, "answers" if task.free_text else "label")
    if missing := [column for column in needed if column not in rows.column_names]:
        raise UserError(f"{where} has no column {missing[0]!r}; it has {', '.join(rows.column_names)}.")
    if not len(rows):
        raise UserError(f"{where} has no rows.")
    for column in task.columns:
        if column_kind(rows.features[column]) not in ("string", "large_string"):
            raise UserError(f"{where}: column {column!r} must hold text, not {column_kind(rows.features[column])}.")
        if rows.data.column(column).null_count:
            raise UserError(f"{where}: column {column!r} is empty in {rows.data.column(column).null_count} rows.")
    if not task.free_text:
        check_numbers(rows, task, where)


def check_numbers(rows: Dataset, task: Task, where: str) -> None:
    """Raise `ValueError` unless all labels are numbers of the task's range, or -1."""
    found, kinds = (
        column_kind(rows.features["label"]),
        ("int", "uint", "float") if task.is_regression else ("int", "uint"),
    )
    if not found.startswith(kinds):
        raise UserError(
            f"{where}: column 'label' must hold numbers{'' if task.is_regression else ', whole ones'}, not {found}."
        )
    labels = set(rows["label"][:])  # the whole column at once: row by row, a million rows take a minute
    if None in labels or any(label != label for label in labels):
        raise UserError(f"{where} has rows without a label.")
    low, high = task.span if task.is_regression else (0, len(task.labels) - 1)
    if bad := [label for label in labels if label != -1 and not low <= label <= high]:
        names = f" ({', '.join(task.labels)})" if task.labels else ""
        raise UserError(f"{where} has the label {min(bad)}; {task.name} has {low} to {high}{names}.")


def column_kind(feature: Any) -> str:
    """The type of a column, for a message. Lists and nested columns have no dtype, so they go by their class."""
    return str(getattr(feature, "dtype", type(feature).__name__))
