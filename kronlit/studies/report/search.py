"""What a study searched for: the grid of each method and task, what was chosen, and whether it lies at the edge."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kronlit.studies.edge import at_end
from kronlit.studies.plan import make_run, point_name, points
from kronlit.studies.report.table import Row
from kronlit.studies.result import read_result
from kronlit.studies.study import Study
from kronlit.studies.tune import is_number
from kronlit.studies.tuned import Trial, TunedCell

MANY = 4
"""Of more searches a sentence gives the number alone."""

HEADER = ["method", "task", "chosen", "warning", "validation", "trials", "tried"]


def search_lines(tuned: list[TunedCell]) -> list[list[str]]:
    """A line for each method and task, in order of methods."""
    order = list(dict.fromkeys(cell.method for cell in tuned))
    return [search_line(cell) for cell in sorted(tuned, key=lambda cell: order.index(cell.method))]


def search_line(cell: TunedCell) -> list[str]:
    """Method, task, what was chosen, a warning, its validation score, the number of trials, and what was tried."""
    tried = "; ".join(f"{short(option)}: {values_text(values)}" for option, values in cell.search.items())
    stopped = sum(trial.status == "stopped" for trial in cell.trials)
    failed = sum(trial.status == "failed" for trial in cell.trials)
    counts = [f"{count} {word}" for count, word in ((stopped, "stopped early"), (failed, "failed")) if count]
    trials = f"{len(cell.trials)}" + (f" ({', '.join(counts)})" if counts else "")
    best = chosen_trial(cell)
    score = "" if best is None or best.score is None else f"{100 * best.score:.2f}"
    return [cell.method, cell.task, point_name(cell.chosen) or "nothing yet", edge_text(cell), score, trials, tried]


def edge_text(cell: TunedCell) -> str:
    """A warning if the chosen value of an option lies at the end of what was tried."""
    if not cell.edge:
        return ""
    return f"{', '.join(map(short, cell.edge))} at the edge"


def edge_cells(tuned: Iterable[TunedCell]) -> str:
    """A sentence on the searches whose choice lies at the edge; empty if none does."""
    tuned = list(tuned)
    names = [f"{cell.method} on {cell.task}" for cell in tuned if cell.edge]
    if len(names) > MANY:
        return f"The best value lies at the edge of what was tried in {len(names)} of {len(tuned)} searches."
    return f"The best value lies at the edge of what was tried for {', '.join(names)}." if names else ""


def chosen_trial(cell: TunedCell) -> Trial | None:
    """The trial of the chosen point."""
    return next((trial for trial in cell.trials if trial.point == cell.chosen), None)


def short(option: str) -> str:
    """The last part of an option's name."""
    return option.rpartition(".")[2]


def values_text(values: list[Any]) -> str:
    """Values, or the ends of a range, as people write them."""
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def searched_option(cells: Iterable[TunedCell]) -> str | None:
    """The option to plot scores over: the learning rate, or else the first one with two or more numbers above 0."""
    counts: dict[str, int] = {}
    for cell in cells:
        for option in cell.search:
            counts.setdefault(option, 0)
            points = {trial.point.get(option) for trial in cell.trials if positive(trial.point.get(option))}
            counts[option] = max(counts[option], len(points))
    options = [option for option, count in counts.items() if count > 1]
    return next((option for option in options if short(option) == "lr"), options[0] if options else None)


def positive(value: Any) -> bool:
    """Whether a value is a number that a logarithmic axis can show."""
    return is_number(value) and value > 0


def grid_cells(study: Study, root: Path, rows: list[Row]) -> list[TunedCell]:
    """The search that a grid was whose points are selected from. Of points by seed, what most seeds chose counts."""
    if study.select == "none":
        return []
    found = []
    for row in rows:
        for task in study.tasks:
            grid = study.grid_of(row.method)
            trials = []
            for point in points(grid):
                scores = {}
                for seed in study.seeds:
                    result = read_result(root / make_run(study, task, row.method, point, seed).folder)
                    if result and study.select_by in result.scores:
                        scores[seed] = result.scores[study.select_by]
                if scores:
                    trials.append(Trial(point, scores, 1, 1, "done"))
            counted = [result.point for result in row.cells[task].results.values()]
            if not trials or not counted:
                continue
            chosen = max(counted, key=counted.count)
            edge = [option for option, values in grid.items() if at_end(chosen[option], in_order(values))]
            given = study.select_by, study.select_mode, study.seeds
            found.append(TunedCell(task, row.method, grid, *given, trials, chosen, edge))
    return found


def in_order(values: list[Any]) -> list[Any]:
    """Numbers from the smallest to the largest; other values have no order."""
    return sorted(values) if all(map(is_number, values)) else values
