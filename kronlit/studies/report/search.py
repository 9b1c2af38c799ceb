"""What a study searched for: the grid of each method and task, what was chosen, and whether it lies at the edge."""

from collections.abc import Iterable
from typing import Any

from kronlit.studies.plan import point_name
from kronlit.studies.tuned import Trial, TunedCell

Number = int | float


def search_lines(tuned: list[TunedCell]) -> list[list[str]]:
    """A line for each method and task, in order of methods."""
    order = list(dict.fromkeys(cell.method for cell in tuned))
    return [search_line(cell) for cell in sorted(tuned, key=lambda cell: order.index(cell.method))]


def search_line(cell: TunedCell) -> list[str]:
    """Method, task, what was tried, what was chosen, number of trials, best validation score, and a warning."""
    tried = "; ".join(f"{short(option)}: {values_text(values)}" for option, values in cell.search.items())
    stopped = sum(trial.status == "stopped" for trial in cell.trials)
    failed = sum(trial.status == "failed" for trial in cell.trials)
    counts = [f"{count} {word}" for count, word in ((stopped, "stopped early"), (failed, "failed")) if count]
    trials = f"{len(cell.trials)}" + (f" ({', '.join(counts)})" if counts else "")
    best = chosen_trial(cell)
    score = "" if best is None or best.score is None else f"{100 * best.score:.2f}"
    return [cell.method, cell.task, tried, point_name(cell.chosen), trials, score, edge_text(cell)]


def edge_text(cell: TunedCell) -> str:
    """A warning if the chosen value of an option lies at the end of what was tried."""
    if not cell.edge:
        return ""
    return f"at the edge: {', '.join(map(short, cell.edge))}; a better one may lie outside"


def edge_cells(tuned: Iterable[TunedCell]) -> str:
    """A sentence on the searches whose choice lies at the edge; empty if none does."""
    names = [f"{cell.method} on {cell.task}" for cell in tuned if cell.edge]
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
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
