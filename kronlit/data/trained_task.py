"""The task in a checkpoint. It decides what classes and columns mean, even if the files have changed since."""

from collections.abc import MutableMapping
from dataclasses import asdict, fields
from typing import Any

from kronlit.config.user_error import UserError
from kronlit.data.form import Form, check_form
from kronlit.data.tasks import Task

FORM: Form = {
    "name": str,
    "columns": [str],
    "labels": [str],
    "metrics?": [str],
    "source?": str,
    "validation?": [str],
    "span?": [int | float],
    "segments?": [str],
    "free_text?": bool,
    "word_split?": bool,
    "selection?": [str],
    "form?": str,
    "jobs?": [str],
}
"""The form of what `task_record` writes. Fields that were added to tasks later may be missing."""


def task_record(task: Task) -> dict[str, Any]:
    """The record of a task in a checkpoint."""
    return asdict(task)


def task_of(checkpoint: dict[str, Any]) -> Task | None:
    """The task of a checkpoint; `None` for older checkpoints, which do not record it.

    Raises:
        ValueError: if the record is damaged.
    """
    record = checkpoint.get("kronlit", {}).get("task")
    if record is None:
        return None
    check_form(record, FORM, "the checkpoint's task")
    names = {field.name for field in fields(Task)}
    kept: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items() if name in names
    }
    return Task(**kept)


def follow_task(
    arguments: MutableMapping[str, Any],
    defaults: MutableMapping[str, Any],
    task: Task,
    columns_given: bool = False,
) -> None:
    """Set classes (or span) and columns in the arguments of a data module to those of `task`, in the same order.

    Otherwise they would be read from a file that may have changed. Values that the user gave and that contradict `task`
    stay, so that `check_task` reports them.

    Args:
        arguments: the arguments, given or default; this changes them.
        defaults: the defaults of the arguments.
        task: the task of the checkpoint.
        columns_given: whether the user named columns for this command, even if these are the default ones.
    """
    labels, span = arguments.get("labels"), arguments.get("span")
    if task.labels and "labels" in arguments and span is None:
        if labels is None or set(labels) == set(task.labels):
            arguments["labels"] = task.labels
    elif task.is_regression and "span" in arguments and span is None and labels is None:
        arguments["span"] = task.span
    if isinstance(columns := arguments.get("columns"), list | tuple):  # elsewhere they are other names of fixed ones
        left_out = columns == defaults.get("columns") and not columns_given
        if left_out or set(columns) == set(task.columns):
            arguments["columns"] = task.columns


def check_task(ours: Task, theirs: Task) -> None:
    """Raise `ValueError` unless the data has the classes and columns that the checkpoint was trained on."""
    if describe_output(ours) != describe_output(theirs):
        order = ", in this order" if set(ours.labels) == set(theirs.labels) else ""
        raise UserError(
            f"the checkpoint is of {theirs.name}, {describe_output(theirs)}{order}; "
            f"`data` has {describe_output(ours)}: give data of "
            "what was trained on."
        )
    if len(ours.columns) != len(theirs.columns):
        raise UserError(
            f"the checkpoint was trained on the columns {', '.join(theirs.columns)}; `data` has "
            f"{', '.join(ours.columns)}: give as many, in that order, as `data.columns`."
        )


def describe_output(task: Task) -> str:
    """The outputs of a model of the task, for a message."""
    if task.free_text:
        return "texts"
    return f"the classes {', '.join(task.labels)}" if task.labels else "numbers"


def number_columns(template: str, columns: tuple[str, ...]) -> str:
    """A text template with numbers instead of column names."""
    return template.format(**{column: f"{{{number}}}" for number, column in enumerate(columns)})
