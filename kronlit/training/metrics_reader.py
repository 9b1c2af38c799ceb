"""Reads a run's metrics.csv."""

import csv
from pathlib import Path

from kronlit.training.ranking import rank


def metrics_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv, without empty cells. There are none if the file is missing."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def best_scores(rows: list[dict[str, float]], monitor: str | None, mode: str) -> dict[str, float]:
    """All `val` metrics of the best checkpoint, and all `test` metrics of the last test.

    The best checkpoint has the best `monitor`, and among equal ones the lower loss, as `BestCheckpoint` keeps it. If
    nothing is monitored, it is the last one.

    Args:
        rows: rows of metrics.csv.
        monitor: the score that selects.
        mode: `max` or `min`: whether large or small scores are better.
    """
    validations = [row for row in rows if any(name.startswith("val") for name in row)]
    tests = [row for row in rows if any(name.startswith("test/") for name in row)]
    best = validations[-1] if validations else {}
    if monitor is not None and monitor in best:
        best = max(validations, key=lambda row: rank(row, monitor, mode))
    values = best | (tests[-1] if tests else {})
    return {name: value for name, value in values.items() if name.startswith(("val", "test/"))}
