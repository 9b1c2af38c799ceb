"""The task that a checkpoint is of: it decides what classes and columns mean, whatever the files say by now."""

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
}
"""What `task_record` writes; what came to a task later may be missing."""


def task_record(task: Task) -> dict[str, Any]:
    """What a checkpoint keeps of its task."""
    return asdict(task)


def task_of(checkpoint: dict[str, Any]) -> Task | None:
    """The task of a checkpoint; `None` where it was written before checkpoints said so.

    Raises:
        ValueError: if it says something else.
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
    """Have the arguments of a data module say what `task` has: its classes, or span, and its columns, in their order.

    They would otherwise be learned from a file that may have changed. What the user gave and `task` has not stays.

    Args:
        arguments: those that are given, and defaults of the others; those of them that the module has are changed.
        defaults: of the arguments.
        task: what was trained on.
        columns_given: whether the user named columns for this command, be they the default ones.
    """
    labels, span = arguments.get("labels"), arguments.get("span")
    if task.labels and "labels" in arguments and span is None:
        if labels is None or set(labels) == set(task.labels):
            arguments["labels"] = task.labels
    elif task.is_regression and "span" in arguments and span is None and labels is None:
        arguments["span"] = task.span
    if "columns" in arguments:
        columns = arguments["columns"]
        left_out = columns == defaults.get("columns") and not columns_given
        if left_out or set(columns) == set(task.columns):
            arguments["columns"] = task.columns


def check_task(ours: Task, theirs: Task) -> None:
    """Raise `ValueError` unless classes and columns of the data are those that were trained on."""
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
    """What a model of the task gives, for a message."""
    if task.free_text:
        return "texts"
    return f"the classes {', '.join(task.labels)}" if task.labels else "numbers"


def number_columns(template: str, columns: tuple[str, ...]) -> str:
    """A template of a row's text with numbers in place of the columns' names."""
    return template.format(**{column: f"{{{number}}}" for number, column in enumerate(columns)})
