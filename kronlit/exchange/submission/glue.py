"""The tables that gluebenchmark.com scores: row number and prediction, separated by a tab."""

from typing import Any

from kronlit.data.tasks import GLUE_TASKS

TEST_SETS = {
    "CoLA.tsv": ("cola", "test", 1063),
    "SST-2.tsv": ("sst2", "test", 1821),
    "MRPC.tsv": ("mrpc", "test", 1725),
    "STS-B.tsv": ("stsb", "test", 1379),
    "MNLI-m.tsv": ("mnli", "test_matched", 9796),
    "MNLI-mm.tsv": ("mnli", "test_mismatched", 9847),
    "QNLI.tsv": ("qnli", "test", 5463),
    "RTE.tsv": ("rte", "test", 3000),
    "WNLI.tsv": ("wnli", "test", 146),
    "QQP.tsv": ("qqp", "test", 390_965),
    "AX.tsv": ("ax", "test", 1104),
}
"""Name of a table in the zip to its task, split and number of rows."""

BY_NAME = ("mnli", "ax", "qnli", "rte")
"""The tasks whose classes are written as words; the others' are numbers."""


def keys(task: str) -> tuple[str, ...]:
    """What is read of a predicted row."""
    return ("label",)


def table(task: str, rows: list[dict[str, Any]]) -> str:
    """The table of a test set.

    Args:
        task: its name.
        rows: `label` of each, in the test set's order.

    Raises:
        ValueError: if a label is none of the task's.
    """
    values = [prediction(task, row["label"]) for row in rows]
    return "index\tprediction\n" + "".join(f"{index}\t{value}\n" for index, value in enumerate(values))


def prediction(task: str, label: str | float) -> str:
    """A label as GLUE reads it."""
    described = GLUE_TASKS[task]
    if described.is_regression and isinstance(label, float):
        low, high = described.span
        return f"{min(max(label, low), high):.3f}"
    if label not in described.labels:
        there = ", ".join(described.labels) or "numbers"
        raise ValueError(f"{label!r} is no label of {task}, which has {there}.")
    return str(label) if task in BY_NAME else str(described.labels.index(str(label)))
