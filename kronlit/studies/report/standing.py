"""Finds the best row of each column, and which rows are not significantly worse than it.

Of a task the test is over examples where the scored rows of all runs were kept, else over seeds; of the average it is
over seeds. Holm's correction is over each column. One seed cannot tell a method from its luck, so there is no test
with fewer than two, whatever the rows say.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kronlit.studies.report.differences import over_same_figure
from kronlit.studies.report.significance import holm, over_seeds
from kronlit.studies.report.table import AVERAGE, Cell, Row
from kronlit.studies.study import Study

LEVEL = 0.05
LEAST = ("loss", "ter")
"""Scores of which the smallest is best."""

Place = Literal["best", "not worse", "worse", "unknown"]
TESTS = {
    "examples": "approximate randomisation over examples",
    "seeds": "the paired t-test over seeds",
    "": "no test",
}


@dataclass(frozen=True)
class Standing:
    """How the rows of a column stand to its best.

    Args:
        best: names of the rows with the best mean: usually one, none without any score.
        test: examples, seeds or, if nothing could be tested, empty.
        places: the place of each row that has a score. unknown: no test could be made.
        p: p value of each tested row against the best, with Holm's correction over the column.
        p_seeds: of each row the p value over seeds, without correction, where there is one.
    """

    best: list[str]
    test: str
    places: dict[str, Place]
    p: dict[str, float]
    p_seeds: dict[str, float]


def standings(
    study: Study, root: Path, rows: list[Row], metric: str | None, tested: bool = True
) -> dict[str, Standing]:
    """The standing of each column.

    Args:
        study: the study.
        root: its folder.
        rows: the rows of its table.
        metric: a score that is reported instead of the study's own.
        tested: whether to test; without it only the best is known.
    """
    found = {}
    for column in rows[0].cells:
        name = "" if column == AVERAGE else metric or study.metric_of(column)
        cells = {row.name: row.cells[column] for row in rows if row.cells[column].mean is not None}
        found[column] = standing(root, cells, name, tested)
    return found


def standing(root: Path, cells: dict[str, Cell], metric: str, tested: bool) -> Standing:
    """The standing of one column, of which only `cells` have a score. The average has no metric."""
    means = {name: cell.mean or 0.0 for name, cell in cells.items()}
    best = best_of(means, metric)
    places: dict[str, Place] = {name: "best" if name in best else "unknown" for name in cells}
    others = {name: cell for name, cell in cells.items() if name not in best}
    if not others or not tested:
        return Standing(best, "", places, {}, {})
    top = cells[best[0]]
    common = {name: [seed for seed in cell.scores if seed in top.scores] for name, cell in others.items()}
    enough = {name: seeds for name, seeds in common.items() if len(seeds) > 1}
    by_seeds = {
        name: over_seeds([others[name].scores[seed] for seed in seeds], [top.scores[seed] for seed in seeds])
        for name, seeds in enough.items()
    }
    by_examples: dict[str, float | None] = {}
    if metric:
        for name, seeds in enough.items():
            by_examples[name] = over_same_figure(root, others[name], top, seeds, metric)
            if by_examples[name] is None:
                break  # one test for the whole column
    whole = bool(by_examples) and None not in by_examples.values()
    used = by_examples if whole else by_seeds
    corrected = dict(zip(used, holm(list(used.values())), strict=True))
    p = {name: value for name, value in corrected.items() if value is not None}
    places |= {name: "worse" if value < LEVEL else "not worse" for name, value in p.items()}
    test = ("examples" if whole else "seeds") if p else ""
    return Standing(best, test, places, p, {name: value for name, value in by_seeds.items() if value is not None})


def best_of(means: dict[str, float], metric: str) -> list[str]:
    """The names with the best mean; means that differ by rounding alone are equal."""
    if not means:
        return []
    best = (min if least_is_best(metric) else max)(means.values())
    return [name for name, mean in means.items() if abs(mean - best) < 1e-9]


def least_is_best(metric: str) -> bool:
    """Whether the smallest value of a score is best."""
    return metric.rpartition("/")[2] in LEAST


def explain(by_column: dict[str, Standing], seeds: int) -> str:
    """Explains the marks of a table in a few sentences."""
    found = list(by_column.values())
    if not any(len(one.places) > 1 for one in found):
        return ""
    text = "Bold: the best of its column."
    tests = list(dict.fromkeys(one.test for one in found if one.test))
    if not tests:
        why = "one seed is too few" if seeds < 2 else "there is no test of these runs"
        return f"{text} Which others are as good cannot be told: {why}."
    names = TESTS[tests[0]]
    if len(tests) > 1:
        names = TESTS["examples"]
        others = [column for column, one in by_column.items() if one.test == "seeds"]
        names += f" (of {', '.join(others)} by {TESTS['seeds']})"
    text += f" ≈: not significantly worse than that at {LEVEL:g}, by {names}, with Holm's correction over the column."
    if "examples" in tests:
        text += " Over examples the test speaks of these trained models; another seed may move them."
    if any(place == "unknown" for one in found for place in one.places.values()):
        text += " ?: cannot be told."
    return text
