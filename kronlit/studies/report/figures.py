"""The figures of a report: each seed, score over learning rate and over parameters, costs, learning curves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from kronlit.studies.report.curves import curve
from kronlit.studies.report.search import chosen_trial, edge_cells, positive, searched_option, short
from kronlit.studies.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Panel, axis, spread
from kronlit.studies.report.table import Row, Std
from kronlit.studies.result import Result
from kronlit.studies.study import Study
from kronlit.studies.tuned import TunedCell

LINE = 20
"""Height of the line of a row, in figures with a line for each."""
NAMES = 132
"""Where such a figure begins, right of the names."""


@dataclass(frozen=True)
class Figure:
    """Panels with a common legend.

    Args:
        name: its file, without ending.
        title: its title.
        caption: how to read it.
        panels: the panels.
        legend: names of the rows, each with its number in the table, which gives its colour and shape.
        joined: whether each row's markers are joined by a line.
    """

    name: str
    title: str
    caption: str
    panels: list[Panel]
    legend: list[tuple[int, str]]
    joined: bool = False


def figures(
    study: Study, root: Path, rows: list[Row], tuned: list[TunedCell], chance: dict[str, float], std: Std
) -> list[Figure]:
    """All figures of which there is anything to show."""
    made = [
        seed_figure(rows, chance),
        search_figure(tuned, rows),
        parameter_figure(rows, std),
        cost_figure(rows),
        curve_figure(study, root, rows),
    ]
    return [one for one in made if one.panels]


def across(values: Sequence[float], left: float = LEFT, log: bool = False) -> Axis:
    """A horizontal axis for values."""
    return axis(values, left, WIDTH - RIGHT, log)


def upwards(values: Sequence[float]) -> Axis:
    """A vertical axis for values."""
    return axis(values, HEIGHT - BOTTOM, TOP)


def lined(title: str, rows: list[Row], x: Axis, label: str) -> Iterator[tuple[Panel, list[float]]]:
    """A panel with a line for each row, and the pixel of each line."""
    panel = Panel(title, x, None, label, "method", TOP + BOTTOM + LINE * len(rows), NAMES)
    heights = [TOP + LINE * (i + 0.5) for i in range(len(rows))]
    for row, y in zip(rows, heights, strict=True):
        panel.text(NAMES - 8, y + 3.5, row.name, anchor="end", most=18)
    yield panel, heights


def seed_figure(rows: list[Row], chance: dict[str, float]) -> Figure:
    """Each seed as a dot, with the mean as a line across."""
    panels = []
    for column in rows[0].cells:
        values = [score for row in rows for score in row.cells[column].scores.values()]
        if not values:
            continue
        base = [chance[column]] if column in chance else []
        for panel, heights in lined(column, rows, across([*values, *base], NAMES), "score"):
            for level in base:
                x = panel.x.at(level)
                panel.line([(x, TOP), (x, TOP + LINE * len(rows))], "chance", dash="4 3")
            for i, (row, y) in enumerate(zip(rows, heights, strict=True)):
                cell = row.cells[column]
                if cell.mean is None:
                    panel.text(WIDTH - RIGHT, y + 3.5, "missing", "warn", "end")
                    continue
                x = panel.x.at(cell.mean)
                panel.line([(x, y - 8), (x, y + 8)], "mean", i)
                for n, (seed, score) in enumerate(cell.scores.items()):
                    shift = 3.0 * ((n % 3) - 1) if len(cell.scores) > 1 else 0.0
                    panel.marker(panel.x.at(score), y + shift, i, f"{row.name}, seed {seed}: {score:.2f}", "dot")
            panels.append(panel)
    caption = "A marker for each seed; the upright line is their mean."
    if chance:
        caption += " Dashed: the chance level."
    return Figure("seeds", "Each seed", caption, panels, [])


def search_figure(tuned: list[TunedCell], rows: list[Row]) -> Figure:
    """The validation score of each trial over the learning rate, or over what else was searched."""
    order = list(dict.fromkeys([row.method for row in rows] + [cell.method for cell in tuned]))
    option = searched_option(tuned)
    label = "learning rate" if short(option or "lr") == "lr" else short(option or "")
    panels, shown = [], set()
    for task in dict.fromkeys(cell.task for cell in tuned) if option else ():
        cells = [cell for cell in tuned if cell.task == task]
        every = {
            cell.method: [
                (float(t.point[option]), 100 * t.score, t)
                for t in cell.trials
                if option and positive(t.point.get(option)) and t.score is not None
            ]
            for cell in cells
        }
        flat = [point for points in every.values() for point in points]
        if not flat:
            continue
        x, y = across([point[0] for point in flat], log=True), upwards([point[1] for point in flat])
        panel = Panel(task, x, y, label, cells[0].select_by)
        for cell in cells:
            i, points = order.index(cell.method), every[cell.method]
            best = {rate: max(s for r, s, _ in points if r == rate) for rate in sorted({r for r, _, _ in points})}
            panel.line([(x.at(rate), y.at(score)) for rate, score in best.items()], "curve", i)
            for rate, score, trial in points:
                said = f"{cell.method}, {short(option or '')} {rate:g}: {score:.2f} ({trial.status})"
                panel.marker(x.at(rate), y.at(score), i, said, "stopped" if trial.status == "stopped" else "")
            chosen = chosen_trial(cell)
            for rate, score, trial in points:
                if trial is chosen:
                    panel.ring(x.at(rate), y.at(score), option in cell.edge)
            shown.add(cell.method)
        panels.append(panel)
    caption = "Validation score, times 100, of each trial. Ringed: chosen. Hollow: stopped early."
    if warned := edge_cells(tuned):
        caption += f" Dashed ring: at the edge of what was tried. {warned}"
    legend = [(i, name) for i, name in enumerate(order) if name in shown]
    return Figure("search", f"Score over {label}", caption, panels, legend, joined=True)


def parameter_figure(rows: list[Row], std: Std) -> Figure:
    """Score over the number of trained parameters."""
    panels, shown = [], set()
    for column in rows[0].cells:
        there = [(i, row) for i, row in enumerate(rows) if row.cells[column].mean is not None]
        if not there:
            continue
        values = [(mean_parameters(row, column), row.cells[column].mean or 0.0) for _, row in there]
        spans = [row.cells[column].std(std) or 0.0 for _, row in there]
        x = across([max(1.0, value) for value, _ in values], log=True)
        ends = [score + sign * span for (_, score), span in zip(values, spans, strict=True) for sign in (-1, 1)]
        y = upwards(ends)
        panel = Panel(column, x, y, "trained parameters", "score")
        true = [(x.at(max(1.0, value)), y.at(score)) for value, score in values]
        front = pareto_front(values)
        if len(front) > 1:
            panel.line(steps(sorted(true[n] for n in front)), "front")
        for n, ((i, row), at) in enumerate(zip(there, spread(true, LEFT + 6, WIDTH - RIGHT - 6), strict=True)):
            if at != true[n]:
                panel.line([at, true[n]], "leader")
            half = abs(y.at(spans[n]) - y.at(0.0))
            panel.line([(at[0], at[1] - half), (at[0], at[1] + half)], "error", i)
            said = f"{row.name}: {values[n][1]:.2f}, {values[n][0]:,.0f} parameters"
            panel.marker(*at, i, said, "" if n in front else "hollow")
            shown.add(i)
        panels.append(panel)
    caption = (
        "Filled: nothing scores as much with fewer parameters; the grey line joins these. Bars: ± standard deviation. "
        "Markers that would hide others stand beside their place, at the end of a thin line."
    )
    legend = [(i, row.name) for i, row in enumerate(rows) if i in shown]
    return Figure("parameters", "Score over trained parameters", caption, panels, legend)


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


def steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A line through points that goes right and then up or down."""
    joined = [points[0]]
    for x, y in points[1:]:
        joined += [(x, joined[-1][1]), (x, y)]
    return joined


def mean_parameters(row: Row, column: str) -> float:
    """Mean number of trained parameters of a row on a task; for the average, on all tasks."""
    results = list(row.cells[column].results.values()) or row.results
    return fmean(result.summary["trained_parameters"] for result in results if result.summary)


def cost_figure(rows: list[Row]) -> Figure:
    """Seconds an epoch and the largest memory, as bars."""

    def seconds(results: list[Result]) -> float | None:
        known = [s for r in results if r.summary and (s := r.summary["seconds_per_epoch"]) is not None]
        return fmean(known) if known else None

    def memory(results: list[Result]) -> float | None:
        known = [b for r in results if r.summary and (b := r.summary["peak_memory_bytes"])]
        return max(known) / 1e9 if known else None

    kinds: list[tuple[str, str, Callable[[list[Result]], float | None]]] = [
        ("Time", "seconds an epoch", seconds),
        ("Memory", "peak memory in GB", memory),
    ]
    panels = []
    for title, label, measure in kinds:
        values = [measure([result for result in row.results if result.side_by_side == 1]) for row in rows]
        known = [value for value in values if value is not None]
        if not any(known):
            continue
        x = Axis(0, 1.2 * max(known), NAMES, WIDTH - RIGHT)
        for panel, heights in lined(title, rows, x, label):
            for i, (row, y, value) in enumerate(zip(rows, heights, values, strict=True)):
                if value is None:
                    panel.text(NAMES + 6, y + 3.5, "not known", "warn")
                    continue
                panel.bar(x.at(value), y, i, f"{row.name}: {value:.3g} {label}")
                panel.text(x.at(value) + 4, y + 3.5, f"{value:.3g}", "value")
            panels.append(panel)
    caption = "The mean time of an epoch's training, and the largest memory of any run. Runs side by side are left out."
    return Figure("costs", "Time and memory", caption, panels, [])


def curve_figure(study: Study, root: Path, rows: list[Row]) -> Figure:
    """The validation score during training: the mean over seeds, and the range from smallest to largest."""
    panels, shown = [], set()
    for task in study.tasks:
        curves = {i: found for i, row in enumerate(rows) if (found := curve(study, root, row, task))}
        if not curves:
            continue
        x = across([step for one in curves.values() for step in one])
        y = upwards([score for one in curves.values() for scores in one.values() for score in scores])
        panel = Panel(task, x, y, "step", study.select_by)
        for i, one in curves.items():
            at = [x.at(step) for step in one]
            highs, lows = ([y.at(pick(scores)) for scores in one.values()] for pick in (max, min))
            panel.area([*zip(at, highs, strict=True), *reversed([*zip(at, lows, strict=True)])], i)
        for i, one in curves.items():
            points = [(x.at(step), y.at(fmean(scores))) for step, scores in one.items()]
            panel.line(points, "curve", i)
            for at_point, (step, scores) in zip(points, one.items(), strict=True):
                said = f"{rows[i].name}, step {step:g}: {fmean(scores):.2f}"
                panel.marker(*at_point, i, said, "small")
            shown.add(i)
        panels.append(panel)
    caption = f"100 times {study.select_by} while training: mean over seeds, and the range from smallest to largest."
    legend = [(i, row.name) for i, row in enumerate(rows) if i in shown]
    return Figure("learning_curves", "Learning curves", caption, panels, legend, joined=True)
