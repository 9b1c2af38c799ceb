"""All methods against one, task by task."""

from dataclasses import dataclass, replace
from pathlib import Path

from kronlit.studies.significance import ScoredSystem, holm, over_examples, over_seeds
from kronlit.studies.study import Study
from kronlit.studies.table import AVERAGE, Cell, Row


@dataclass(frozen=True)
class Difference:
    """A row's score less the baseline's, on one task.

    Args:
        row: name of the row.
        task: name of the task, or `average`.
        difference: of the means over the seeds that both have.
        seeds: how many those are.
        p_seeds: of the paired t-test.
        p_examples: of approximate randomisation.
        p_seeds_holm: corrected over the whole table.
        p_examples_holm: corrected over the whole table.
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
    """Every row against the row `baseline`, wherever both have a seed."""
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
                examples = over_examples(system(root, cell, seeds, name), system(root, theirs, seeds, name))
            found.append(Difference(row.name, task, mean, len(seeds), over_seeds(*pairs), examples))
    by_seeds = holm([one.p_seeds for one in found])
    by_examples = holm([one.p_examples for one in found])
    return [
        replace(one, p_seeds_holm=p, p_examples_holm=q) for one, p, q in zip(found, by_seeds, by_examples, strict=True)
    ]


def system(root: Path, cell: Cell, seeds: list[int], metric: str) -> ScoredSystem:
    """What a cell's runs answered, for the metric, or for those whose mean it is."""
    results = [cell.results[seed] for seed in seeds]
    split, name = metric.split("/")
    parts = [metric]
    if name == "score":
        others = (f"{split}/loss", f"{split}/score")
        parts = [key for key in results[0].scores if key.startswith(f"{split}/") and key not in others]
    files = [cell.runs[seed].folder / str(cell.results[seed].fit) / f"{split}_rows.csv" for seed in seeds]
    return ScoredSystem([root / file for file in files], [result.scores for result in results], parts)
