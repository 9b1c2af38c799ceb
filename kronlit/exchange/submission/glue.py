"""The tables that gluebenchmark.com scores: row number and prediction, separated by a tab."""

from typing import Any

from kronlit.data.tasks.benchmark import BenchmarkTask


def keys(known: BenchmarkTask) -> tuple[str, ...]:
    """The keys that are read of a predicted row."""
    return ("label",)


def table(known: BenchmarkTask, rows: list[dict[str, Any]]) -> str:
    """The table of a test set.

    Args:
        known: its task.
        rows: `label` of each, in the test set's order.

    Raises:
        ValueError: if a label is not one of the task's.
    """
    values = [prediction(known, row["label"]) for row in rows]
    return "index\tprediction\n" + "".join(f"{index}\t{value}\n" for index, value in enumerate(values))


def prediction(known: BenchmarkTask, label: str | float) -> str:
    """A label in GLUE's notation."""
    if known.task.is_regression and isinstance(label, float):
        low, high = known.task.span
        return f"{min(max(label, low), high):.3f}"
    return str(known.submission(label))
