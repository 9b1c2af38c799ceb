"""Makes a table of results: selects points of the grid, and lists what is missing."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kronlit.studies.plan import Run, plan, points, row_name
from kronlit.studies.result import Result, read_result
from kronlit.studies.study import Study
from kronlit.training.ranking import rank

AVERAGE = "average"
Std = Literal["sample", "population"]


@dataclass(frozen=True)
class Missing:
    """A run that a cell lacks.

    Args:
        run: the run.
        reason: why it has no score.
    """

    run: Run
    reason: str


@dataclass(frozen=True)
class Cell:
    """The scores of a method on a task.

    Args:
        scores: the score of each seed, times 100.
        runs: the run that counts for each seed.
        results: the result of that run.
        missing: the runs that are missing.
    """

    scores: dict[int, float]
    runs: dict[int, Run]
    results: dict[int, Result]
    missing: list[Missing]

    @property
    def mean(self) -> float | None:
        """Mean over the seeds that have a score."""
        return statistics.fmean(self.scores.values()) if self.scores else None

    def std(self, kind: Std) -> float | None:
        """Standard deviation over seeds, of a sample (n - 1) or of a population (n); LM-BFF prints the latter."""
        values = list(self.scores.values())
        if kind == "population":
            return statistics.pstdev(values) if values else None
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        name: name of the method, with its point of the grid if none is selected.
        method: the method.
        cells: the cell of each task; for several tasks also `average`, over the seeds that every task has.
    """

    name: str
    method: str
    cells: dict[str, Cell]

    @property
    def results(self) -> list[Result]:
        """The results of all runs that count."""
        return [result for cell in self.cells.values() for result in cell.results.values()]


def table(study: Study, root: Path, metric: str | None = None) -> list[Row]:
    """The rows of a study's table.

    Args:
        study: the study.
        root: its folder.
        metric: a score to report instead of the study's own.
    """
    found = [(run, read_result(root / run.folder)) for run in plan(study)]
    rows = []
    for method in study.methods:
        every = points(study.grid_of(method))
        for kept in [[point] for point in every] if study.select == "none" else [every]:
            cells = {}
            for task in study.tasks:
                runs = [(r, x) for r, x in found if r.method == method and r.task == task and r.point in kept]
                cells[task] = cell(study, runs, metric or study.metric_of(task))
            name = row_name(method, kept[0]) if study.select == "none" else method
            rows.append(Row(name, method, cells | average_cells(cells)))
    return rows


def cell(study: Study, runs: list[tuple[Run, Result | None]], metric: str) -> Cell:
    """Make one cell of the runs that may count for it."""
    compares = len({run.folder.parent for run, _ in runs}) > 1
    needed = [metric, study.select_by] if compares else [metric]
    missing = [Missing(run, reason) for run, result in runs if (reason := why_incomplete(result, needed))]
    whole = [(run, result) for run, result in runs if result and not why_incomplete(result, needed)]
    counts = choose_runs(study, whole)
    scores = {seed: 100 * result.scores[metric] for seed, (_, result) in counts.items()}
    runs_by_seed = {seed: run for seed, (run, _) in counts.items()}
    return Cell(scores, runs_by_seed, {seed: result for seed, (_, result) in counts.items()}, missing)


def why_incomplete(result: Result | None, scores: list[str]) -> str:
    """Why a run cannot count; empty if it can."""
    if result is None:
        return "not run"
    if result.status == "failed":
        return f"failed: {result.error}"
    if result.status == "running":
        return "not finished"
    absent = [name for name in scores if name not in result.scores]
    return f"has no {absent[0]}; it has {', '.join(result.scores)}" if absent else ""


Pair = tuple[Run, Result]


def choose_runs(study: Study, runs: list[Pair]) -> dict[int, Pair]:
    """For each seed, the run at the selected point of the grid. Among equal scores, the lower loss wins."""

    def score(pair: Pair) -> tuple[float, float]:
        return rank(pair[1].scores, study.select_by, study.select_mode)

    by_point: dict[Path, dict[int, Pair]] = {}
    for run, result in runs:
        by_point.setdefault(run.folder.parent, {})[run.seed] = (run, result)
    if study.select == "none":
        return next(iter(by_point.values()), {})
    if study.select == "per_seed":
        each = {seed: [there[seed] for there in by_point.values() if seed in there] for seed in study.seeds}
        return {seed: max(pairs, key=score) for seed, pairs in each.items() if pairs}
    # A point that lacks a seed is left out: its mean would be over other seeds than the rest.
    whole = [there for there in by_point.values() if len(there) == len(study.seeds)]
    return max(whole, key=lambda there: means(map(score, there.values())), default={})


def means(ranks: Iterable[tuple[float, float]]) -> tuple[float, ...]:
    """The mean of the scores and the mean of the losses."""
    return tuple(statistics.fmean(values) for values in zip(*ranks, strict=True))


def average_cells(cells: dict[str, Cell]) -> dict[str, Cell]:
    """The mean over tasks for each seed. A seed that some task lacks has none."""
    if len(cells) < 2:
        return {}
    common = set.intersection(*(set(cell.scores) for cell in cells.values()))
    seeds = [seed for seed in next(iter(cells.values())).scores if seed in common]
    scores = {seed: statistics.fmean(cell.scores[seed] for cell in cells.values()) for seed in seeds}
    return {AVERAGE: Cell(scores, {}, {}, [missing for cell in cells.values() for missing in cell.missing])}
