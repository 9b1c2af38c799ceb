"""Plots of a study: score against parameters, and learning curves."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from kronlit.studies.report.table import Row, Std
from kronlit.studies.study import Study
from kronlit.training.metrics_reader import metrics_rows

# Okabe and Ito's colours, which colour-blind people can tell apart. The second round has squares and dashed lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
DPI = 144


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The indices of the points `(parameters, score)` that no other beats.

    A point beats another if it is better in one of fewer parameters and higher score, and not worse in the other.
    """
    best = float("-inf")
    front = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            best = points[i][1]
            front += [j for j in range(len(points)) if points[j] == points[i]]
    return sorted(front)


def style(number: int) -> dict[str, str]:
    """Colour, marker and line style of row number `number`."""
    first = number < len(COLOURS)
    colour = COLOURS[number % len(COLOURS)]
    return {"color": colour, "marker": "o" if first else "s", "linestyle": "-" if first else "--"}


def panels(names: Sequence[str], draw: Callable[[Any, str], None], path: Path) -> None:
    """Draw a panel for each name with a common legend, and save them as one PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns + 2, 3.4 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for name, axes in zip(names, grid, strict=False):
        draw(axes, name)
        axes.set_title(name, parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        there, labels = axes.get_legend_handles_labels()
        handles = dict(zip(labels, there, strict=True)) | handles
    if handles:
        texts = figure.legend(handles.values(), handles, loc="outside right center", frameon=False).get_texts()
        for text in texts:
            text.set_parse_math(False)
    figure.savefig(path, dpi=DPI)


def draw_pareto(rows: list[Row], std: Std, path: Path) -> None:
    """Plot the score against trained parameters, with a panel for each task and one for the average."""

    def draw(axes: Any, name: str) -> None:
        shown = [(i, row) for i, row in enumerate(rows) if row.cells[name].mean is not None]
        points = [(mean_parameters(row, name), row.cells[name].mean or 0.0) for _, row in shown]
        front = pareto_front(points)
        for n, (i, row) in enumerate(shown):
            drawn = style(i) | {"linestyle": "", "markerfacecolor": style(i)["color"] if n in front else "white"}
            axes.errorbar(*points[n], yerr=row.cells[name].std(std) or 0.0, capsize=2, label=row.name, **drawn)
        line = sorted(points[n] for n in front)
        axes.step([x for x, _ in line], [y for _, y in line], where="post", color="#999999", linewidth=1, zorder=0)
        axes.set_xscale("log")
        axes.margins(x=0.15, y=0.15)
        axes.set_xlabel("trained parameters")
        axes.set_ylabel("score")

    panels(list(rows[0].cells), draw, path)


def mean_parameters(row: Row, column: str) -> float:
    """Mean number of trained parameters of a row on a task; for the average, on all tasks."""
    results = list(row.cells[column].results.values()) or row.results
    return fmean(result.summary["trained_parameters"] for result in results if result.summary)


def draw_curves(study: Study, root: Path, rows: list[Row], path: Path) -> None:
    """Plot the validation score during training: the mean over seeds, and the range from smallest to largest."""

    def draw(axes: Any, name: str) -> None:
        for i, row in enumerate(rows):
            steps = curve(study, root, row, name)
            if steps:
                x = list(steps)
                axes.plot(x, [fmean(steps[step]) for step in x], label=row.name, markersize=4, **style(i))
                low, high = [min(steps[step]) for step in x], [max(steps[step]) for step in x]
                axes.fill_between(x, low, high, color=style(i)["color"], alpha=0.12, linewidth=0)
        axes.set_xlabel("step")
        axes.set_ylabel(study.select_by)

    panels(list(study.tasks), draw, path)


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
