"""`kronlit study report`: writes a study's results in formats for papers and people."""

import csv
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kronlit.config.explain import nearest
from kronlit.config.user_error import UserError
from kronlit.studies.plan import plan
from kronlit.studies.report.differences import Difference, differences
from kronlit.studies.report.facts import Facts, chance_of, facts, read_settings
from kronlit.studies.report.figures import figures
from kronlit.studies.report.origins import origins
from kronlit.studies.report.page import page, picture
from kronlit.studies.report.render import Lead, latex, markdown
from kronlit.studies.report.search import HEADER, grid_cells, search_line
from kronlit.studies.report.sheets import Sheet, build_sheets
from kronlit.studies.report.standing import Standing, standings
from kronlit.studies.report.table import AVERAGE, Row, Std, table
from kronlit.studies.report.verdict import verdict
from kronlit.studies.result import read_result, write_whole
from kronlit.studies.study import Study
from kronlit.studies.tuned import read_tuned
from kronlit.studies.worth import worth

FORMATS = ("md", "csv", "tex", "html")


def report(
    study: Study,
    root: Path,
    format: str = ",".join(FORMATS),
    baseline: str | None = None,
    metric: str | None = None,
    std: Std = "sample",
    plots: bool = True,
) -> str:
    """Write the report of a study to `report/` in its folder, and return its Markdown.

    Args:
        study: the study.
        root: its folder.
        format: md, csv, tex or html, or several of them separated by commas.
        baseline: the row to compare all others with, in a table of differences; all are compared with the best anyway.
        metric: a score to report on all tasks instead of the study's own, such as test/f1.
        std: standard deviation of a sample (n - 1) or of a population (n), which LM-BFF prints.
        plots: draw each seed, score over learning rate and parameters, costs, and learning curves.
    """
    formats = format.split(",")
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UserError(f"`format`={unknown[0]!r} is none{nearest(unknown[0], FORMATS, everything=True)}")
    if metric is not None and metric.count("/") != 1:
        raise UserError(f"`metric`={metric!r} must be a split and a score, such as test/accuracy or val/f1.")
    rows = table(study, root, metric)
    if baseline is not None and baseline not in (names := [row.name for row in rows]):
        raise UserError(f"`baseline`={baseline!r} is no row{nearest(baseline, names, everything=True)}")
    check_package("scipy", "`baseline`: tests of significance need", baseline is not None)

    folder = root / "report"
    folder.mkdir(exist_ok=True)
    found = differences(study, root, rows, baseline, metric) if baseline is not None else []
    sheets, lead, standing = findings(study, root, rows, found, baseline, metric, std)
    tuned = read_tuned(root)
    drawn = (
        figures(study, root, rows, tuned or grid_cells(study, root, rows), chance_of(study, rows, metric), std)
        if plots
        else []
    )
    paths = [folder / f"{figure.name}.svg" for figure in drawn]
    sources = origins(rows)
    for path, figure in zip(paths, drawn, strict=True):
        write_whole(path, picture(figure))
    if "md" in formats:
        write_whole(folder / "report.md", markdown(root.name, sheets, paths, lead, sources))
    if "tex" in formats:
        write_whole(folder / "report.tex", latex(sheets, lead))
    if "html" in formats:
        write_whole(folder / "report.html", page(root.name, sheets, drawn, lead, sources))
    if "csv" in formats:
        write_csv(folder / "table.csv", cell_lines(study, rows, found, std, metric, standing))
        write_csv(folder / "runs.csv", run_lines(study, root))
        write_csv(folder / "facts.csv", fact_lines(lead.verdict, lead.note, lead.facts))
        if tuned:
            write_csv(folder / "search.csv", (dict(zip(HEADER, search_line(cell), strict=True)) for cell in tuned))
    return markdown(root.name, sheets, paths, lead)  # without the commands, which would fill a screen


def ending(study: Study, root: Path) -> str:
    """The Markdown that `report` returns, without its plots; nothing is written."""
    sheets, lead, _ = findings(study, root, table(study, root), [], None, None, "sample")
    return markdown(root.name, sheets, [], lead)


def findings(
    study: Study,
    root: Path,
    rows: list[Row],
    found: list[Difference],
    baseline: str | None,
    metric: str | None,
    std: Std,
) -> tuple[list[Sheet], Lead, dict[str, Standing]]:
    """The tables, with marks, what stands before them, and how the rows of each column stand to its best."""
    standing = standings(study, root, rows, metric, tested=importlib.util.find_spec("scipy") is not None)
    sheets = list(build_sheets(study, rows, found, baseline, std, metric, str(root), standing))
    tuned = read_tuned(root)
    box = facts(study, rows, read_settings(root, rows), tuned, metric)
    note = None if tuned else comparison_note(study)
    return sheets, Lead(verdict(study, rows, standing, baseline, metric), note, box), standing


def check_package(package: str, sentence: str, wanted: bool) -> None:
    """Raise `ValueError` if a package is `wanted` but not installed."""
    if wanted and importlib.util.find_spec(package) is None:
        raise UserError(f"{sentence} {package}, which is missing: pip install 'kronlit[study]'.")


def comparison_note(study: Study) -> str | None:
    """What the comparison of an untuned study is worth, `None` also where its configs are not at hand."""
    try:
        line = worth(study)
    except UserError:  # a report may be written on another machine
        return None
    return f"{line[0].upper()}{line[1:]}" if line else None


def fact_lines(found: str, note: str | None, box: Facts) -> Iterable[dict[str, Any]]:
    """The verdict and the box, a line each."""
    for name, text in [("Verdict", found), *([("Note", note)] if note else []), *box]:
        yield {"name": name, "text": text}


def cell_lines(
    study: Study, rows: list[Row], found: list[Difference], std: Std, metric: str | None, standing: dict[str, Standing]
) -> Iterable[dict[str, Any]]:
    """One line for each cell of the table, unrounded."""
    by_cell = {(one.row, one.task): one for one in found}
    for row in rows:
        for task, cell in row.cells.items():
            printed: Any = study.published.scores.get(row.method, {}).get(task) if study.published else None
            one = by_cell.get((row.name, task))
            yield {
                "method": row.name,
                "task": task,
                "metric": "" if task == AVERAGE else metric or study.metric_of(task),
                "mean": cell.mean,
                f"{std}_std": cell.std(std),
                "seeds": len(cell.scores),
                "missing_runs": len(cell.missing),
                "published": printed[0] if isinstance(printed, (list, tuple)) else printed,
                "standing": standing[task].places.get(row.name, ""),
                "test_against_best": standing[task].test,
                "p_against_best_holm": standing[task].p.get(row.name),
                "difference": one and one.difference,
                "p_seeds": one and one.p_seeds,
                "p_seeds_holm": one and one.p_seeds_holm,
                "p_examples": one and one.p_examples,
                "p_examples_holm": one and one.p_examples_holm,
            }


def run_lines(study: Study, root: Path) -> Iterable[dict[str, Any]]:
    """One line for each run of the study, including missing ones."""
    costs = ("trained_parameters", "per_cent", "seconds", "seconds_per_epoch", "peak_memory_bytes", "adapter_bytes")
    for run in plan(study):
        result = read_result(root / run.folder)
        summary = (result.summary if result else None) or {}
        yield {
            "task": run.task,
            "method": run.method,
            "seed": run.seed,
            **run.point,
            "status": result.status if result else "not run",
            "side_by_side": result.side_by_side if result else "",
            "error": result.error if result else None,
            "folder": str(run.folder),
            "config": str(run.folder / result.fit / "config.yaml") if result and result.fit else None,
            "command": result.command if result else None,
            **{name: summary.get(name) for name in costs},
            **(result.scores if result else {}),
        }


def write_csv(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Write lines that may have different columns."""
    lines = list(lines)
    names = list(dict.fromkeys(name for line in lines for name in line))
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(lines)
    partial.replace(path)
