"""The content of a report, as tables of plain text that every format can show."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from kronlit.studies.plan import point_name
from kronlit.studies.report.differences import Difference
from kronlit.studies.report.facts import differing, read_settings
from kronlit.studies.report.search import HEADER, edge_cells, search_lines
from kronlit.studies.report.standing import Place, Standing, explain
from kronlit.studies.report.table import AVERAGE, Cell, Row, Std
from kronlit.studies.result import LOG, Result
from kronlit.studies.study import Study
from kronlit.studies.tuned import TunedCell, read_tuned

STDS: dict[Std, str] = {
    "sample": "sample standard deviation (n - 1)",
    "population": "population standard deviation (n)",
}
SELECTIONS = {
    "none": "",
    "per_seed": " Of the grid, for each seed the point with the best {}.",
    "per_method": " Of the grid, for each method and task the point with the best {} on average over the seeds.",
}


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Args:
        title: title of the table.
        caption: how to read it.
        header: names of the columns; the first column holds names.
        rows: the cells, row by row.
        words: the columns, beside the first, that hold words and not numbers.
        marks: the places of cells, by row and column, in a table in which there is a best.
        links: for cells the names of what they stand for in the page.
    """

    title: str
    caption: str
    header: list[str]
    rows: list[list[str]]
    words: tuple[int, ...] = ()
    marks: dict[tuple[int, int], Place] = field(default_factory=dict)
    links: dict[tuple[int, int], str] = field(default_factory=dict)


def scores_sheet(
    study: Study, rows: list[Row], std: Std, metric: str | None, found: dict[str, Standing] | None = None
) -> Sheet:
    """The table of scores, with a paper's numbers below ours, and with the best of each column marked."""
    found = found or {}
    columns = list(rows[0].cells)
    names = {task: metric or study.metric_of(task) for task in study.tasks}
    usual = max(names.values(), key=list(names.values()).count)
    others = "".join(f", {name} on {task}" for task, name in names.items() if name != usual)
    seeds = ", ".join(map(str, study.seeds))
    caption = f"100 times {usual}{others}: mean ± {STDS[std]} over seeds {seeds}."
    if any(study.grid_of(method) for method in study.methods):
        caption += SELECTIONS[study.select].format(study.select_by)
    if any(cell.missing for row in rows for cell in row.cells.values()):
        caption += " Starred cells lack runs; a count says of how many seeds their mean is."
    if marked := explain(found, len(study.seeds)):
        caption += f" {marked}"
    lines: list[list[str]] = []
    marks: dict[tuple[int, int], Place] = {}
    links = {}
    tested = any(one.test for one in found.values())
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            place = found[column].places.get(row.name) if column in found and len(found[column].places) > 1 else None
            if place and (tested or place == "best"):
                marks[len(lines), j + 1] = place
            if row.cells[column].results:
                links[len(lines), j + 1] = f"runs-{i}-{j}"
        lines.append([row.name, *(score(row.cells[column], std, len(study.seeds)) for column in columns)])
        if printed := published_row(study, row.method, columns):
            lines.append([f"{row.method}, published", *printed])
    if study.published:
        caption += f" Published: {study.published.source}."
    return Sheet("Scores", caption, ["method", *columns], lines, (), marks, links)


def score(cell: Cell, std: Std, seeds: int) -> str:
    """A cell as text, with a star if runs are missing."""
    if cell.mean is None:
        return "missing"
    spread = cell.std(std)
    text = f"{cell.mean:.2f}" if spread is None else f"{cell.mean:.2f} ± {spread:.2f}"
    count = f" ({len(cell.scores)} of {seeds})" if len(cell.scores) < seeds else ""
    return f"{text}{count}{' *' if cell.missing else ''}"


def published_row(study: Study, method: str, columns: list[str]) -> list[str]:
    """A paper's numbers for a method, with their average if it has all tasks."""
    printed = study.published.scores.get(method, {}) if study.published else {}
    if not printed:
        return []
    means = {task: value if isinstance(value, (int, float)) else value[0] for task, value in printed.items()}
    texts = {
        task: f"{value:.2f}" if isinstance(value, (int, float)) else f"{value[0]:.2f} ± {value[1]:.2f}"
        for task, value in printed.items()
    }
    if all(task in means for task in study.tasks):
        texts[AVERAGE] = f"{fmean(means[task] for task in study.tasks):.2f}"
    return [texts.get(column, "") for column in columns]


def costs_sheet(rows: list[Row]) -> Sheet:
    """The table of each method's parameters, time and memory."""
    lines = [[row.name, *cost(row.results)] for row in rows]
    caption = (
        "Trained parameters include the classifier if one is trained; per cent is of the original model. s / epoch "
        "counts training alone: the median of a run's epochs, then the mean over runs. s / run counts the whole run. "
        "Runs that trained side by side share time and memory, and are left out of these. Memory and file are the "
        "largest of any run; the file holds what is trained, without the optimiser's state."
    )
    return Sheet("Costs", caption, ["method", "trained", "per cent", "s / epoch", "s / run", "memory", "file"], lines)


def cost(results: list[Result]) -> list[str]:
    """The costs of a row's runs as text."""
    summaries = [result.summary for result in results if result.summary]
    if not summaries:
        return ["missing"] * 6
    trained = sorted({summary["trained_parameters"] for summary in summaries})
    per_cent = sorted({f"{summary['per_cent']:.4f}" for summary in summaries}, key=float)
    alone = [result for result in results if result.side_by_side == 1]
    epochs = [result.summary["seconds_per_epoch"] for result in alone if result.summary]
    seconds = [taken for taken in epochs if taken is not None]
    return [
        " to ".join(f"{n:,}" for n in dict.fromkeys([trained[0], trained[-1]])),
        " to ".join(dict.fromkeys([per_cent[0], per_cent[-1]])),
        f"{fmean(seconds):.1f}" if seconds else "",
        f"{fmean(result.seconds for result in alone):.0f}" if alone else "",
        size(max(r.summary["peak_memory_bytes"] or 0 for r in alone if r.summary)) if alone else "",
        size(max(summary["adapter_bytes"] for summary in summaries)),
    ]


def size(count: float) -> str:
    """A number of bytes in a readable unit."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def significance_sheet(found: list[Difference], baseline: str) -> Sheet:
    """The table of differences to the baseline, with their p values."""
    caption = (
        f"Score minus that of {baseline}. Over seeds: paired t-test (with so few seeds a rank test cannot reach 0.05). "
        "Over examples: approximate randomisation of all seeds' predictions together, 9,999 times. Both are two-sided, "
        "with Holm's correction over this table. A cell is empty if there is no test: with one seed, or without saved "
        "rows (scored_rows: true)."
    )
    header = ["method", "task", "difference", "seeds", "p (seeds)", "Holm", "p (examples)", "Holm"]
    lines = [
        [one.row, one.task, f"{one.difference:+.2f}", str(one.seeds)]
        + [probability(p) for p in (one.p_seeds, one.p_seeds_holm, one.p_examples, one.p_examples_holm)]
        for one in found
    ]
    return Sheet(f"Differences to {baseline}", caption, header, lines, (1,))


def probability(value: float | None) -> str:
    """A p value as text."""
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def selection_sheet(study: Study, rows: list[Row]) -> Sheet:
    """The table of the grid points that were selected."""
    lines = []
    for row in rows:
        for task in study.tasks:
            names = [point_name(result.point) for result in row.cells[task].results.values() if result.point]
            if names:
                counts = (f"{name} ({names.count(name)})" for name in dict.fromkeys(names))
                lines.append([row.name, task, "; ".join(counts)])
    return Sheet("What was selected", "By how many seeds.", ["method", "task", "point"], lines, (1, 2))


def search_sheet(tuned: list[TunedCell]) -> Sheet:
    """The table of what was searched."""
    scores = " or ".join(dict.fromkeys(cell.select_by for cell in tuned))
    caption = f"For each method and task: what was tried, and the point with the best {scores} (100 times it is shown)."
    if warned := edge_cells(tuned):
        caption += f" {warned} A wider search may find a better one."
    return Sheet("Search", caption, HEADER, search_lines(tuned), (1, 2, 3, 6))


def settings_sheet(root: Path, rows: list[Row]) -> Sheet:
    """The table of the settings in which methods differ."""
    names, lines = differing(read_settings(root, rows))
    short = [name.removeprefix("model.") for name in names]
    words = tuple(range(1, len(short) + 1))
    return Sheet("Settings", "Those in which methods differ.", ["method", *short], lines if names else [], words)


def missing_sheet(rows: list[Row], root: str) -> Sheet:
    """The table of missing runs, with reasons."""
    lines = [
        [one.run.name, one.reason, f"{root}/{one.run.folder}/{LOG}" if one.reason != "not run" else ""]
        for row in rows
        for column, cell in row.cells.items()
        if column != AVERAGE
        for one in cell.missing
    ]
    return Sheet("Missing runs", "None of these is in any number above.", ["run", "why", "log"], lines, (1, 2))


def build_sheets(
    study: Study,
    rows: list[Row],
    found: list[Difference],
    baseline: str | None,
    std: Std,
    metric: str | None,
    root: str,
    standing: dict[str, Standing] | None = None,
) -> Iterator[Sheet]:
    """All sheets of a report that are not empty."""
    yield scores_sheet(study, rows, std, metric, standing)
    if baseline is not None:
        yield significance_sheet(found, baseline)
    selected = selection_sheet(study, rows) if study.select != "none" else None
    rest = [
        search_sheet(read_tuned(Path(root))), selected, costs_sheet(rows), settings_sheet(Path(root), rows),
        missing_sheet(rows, root),
    ]  # fmt: skip
    yield from (sheet for sheet in rest if sheet and sheet.rows)
