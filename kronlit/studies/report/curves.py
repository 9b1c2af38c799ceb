"""Reads the validation scores of runs while they trained."""

from collections.abc import Iterator
from pathlib import Path

from kronlit.studies.report.table import Row
from kronlit.studies.study import Study
from kronlit.training.metrics_reader import metrics_rows


def curve(study: Study, root: Path, row: Row, task: str) -> dict[float, list[float]]:
    """For each step that all runs share, the validation scores of the row's runs on a task, times 100."""
    cell = row.cells[task]
    runs = [
        dict(validations(root / cell.runs[seed].folder / str(result.fit), study.select_by))
        for seed, result in cell.results.items()
    ]
    common = sorted(set.intersection(*map(set, runs))) if runs else []
    return {step: [run[step] for run in runs] for step in common}


def validations(fit: Path, name: str) -> Iterator[tuple[float, float]]:
    """The step and the score of each validation of a fit."""
    for line in metrics_rows(fit / "metrics.csv"):
        if name in line:
            yield line["step"] + 1, 100 * line[name]
