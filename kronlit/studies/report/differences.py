"""Compares all methods with a baseline, task by task."""

from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean

from kronlit.studies.report.significance import ScoredSystem, holm, over_examples, over_seeds
from kronlit.studies.report.table import AVERAGE, Cell, Row
from kronlit.studies.study import Study


@dataclass(frozen=True)
class Difference:
    """A row's score minus the baseline's, on one task.

    Args:
        row: name of the row.
        task: name of the task, or `average`.
        difference: difference of the means over the seeds that both have.
        seeds: number of those seeds.
        p_seeds: p value of the paired t-test over seeds.
        p_examples: p value of approximate randomisation over examples.
        p_seeds_holm: `p_seeds` with Holm's correction over the whole table.
        p_examples_holm: `p_examples` with Holm's correction over the whole table.
    """

    row: str
    task: str
    difference: float
    seeds: int
    p_seeds: float | None
    p_examples: float | None
    p_seeds_holm: float | None = None
    p_examples_holm: float | None = None


def differences(study: Study, root: Path, rows: list[Row], baseline: str, metric: str | None) -> list[Difference]:
    """Compare every row with the row `baseline`, on each task where both have a common seed."""
    (base,) = [row for row in rows if row.name == baseline]
    found = []
    for row in rows:
        for task, cell in row.cells.items():
            theirs = base.cells[task]
            seeds = [seed for seed in cell.scores if seed in theirs.scores]
            if row is base or not seeds:
                continue
            pairs = [cell.scores[seed] for seed in seeds], [theirs.scores[seed] for seed in seeds]
            mean = sum(pairs[0]) / len(seeds) - sum(pairs[1]) / len(seeds)
            examples = None
            if task != AVERAGE:
                name = metric or study.metric_of(task)
                examples = over_same_figure(root, cell, theirs, seeds, name)
            found.append(Difference(row.name, task, mean, len(seeds), over_seeds(*pairs), examples))
    by_seeds = holm([one.p_seeds for one in found])
    by_examples = holm([one.p_examples for one in found])
    return [
        replace(one, p_seeds_holm=p, p_examples_holm=q) for one, p, q in zip(found, by_seeds, by_examples, strict=True)
    ]


def over_same_figure(root: Path, ours: Cell, theirs: Cell, seeds: list[int], metric: str) -> float | None:
    """The p value over examples for a metric; for a score, it tests the metrics whose mean the score is.

    If several sets of metrics have the scores as their mean, the largest p value counts.
    """
    sides = [(cell, [cell.results[seed].scores for seed in seeds]) for cell in (ours, theirs)]
    ps = []
    for names in averaged_metrics([one for _, scores in sides for one in scores], metric):
        one, other = (ScoredSystem(row_files(root, cell, seeds, metric), scores, names) for cell, scores in sides)
        ps.append(over_examples(one, other))
    known = [p for p in ps if p is not None]
    return max(known) if known and len(known) == len(ps) else None


def averaged_metrics(runs: list[dict[str, float]], metric: str) -> list[tuple[str, ...]]:
    """The metric itself; for a score, the sets of metrics whose mean equals it in all `runs`.

    This is a search, because results do not record which metrics a task averages.
    """
    split, name = metric.split("/")
    if name != "score":
        return [(metric,)]
    parts = [
        key
        for key in runs[0]
        if key.startswith(f"{split}/") and key not in (metric, f"{split}/loss") and all(key in run for run in runs)
    ]
    sets = (names for size in range(len(parts)) for names in combinations(parts, size + 1))
    return [names for names in sets if all(abs(fmean(run[n] for n in names) - run[metric]) < 1e-6 for run in runs)]


def row_files(root: Path, cell: Cell, seeds: list[int], metric: str) -> list[Path]:
    """The files of the scored rows behind the metric, one for each seed."""
    name = f"{metric.split('/')[0]}_rows.csv"
    return [root / cell.runs[seed].folder / str(cell.results[seed].fit) / name for seed in seeds]
