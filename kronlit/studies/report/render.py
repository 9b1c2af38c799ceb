"""Renders a report as Markdown and LaTeX, with all text escaped."""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kronlit.studies.report.facts import Facts
from kronlit.studies.report.origins import Origins
from kronlit.studies.report.sheets import Sheet

LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "≈": r"$\approx$",
    "…": r"\ldots{}",
}
SIGNS = {"not worse": "≈", "unknown": "?"}
"""What stands behind the number of a cell that is not the best."""


@dataclass(frozen=True)
class Lead:
    """What stands before the tables.

    Args:
        verdict: what was found, in a sentence.
        note: what the comparison is worth, if there is something to say.
        facts: the box.
    """

    verdict: str
    note: str | None
    facts: Facts


def markdown(
    title: str,
    sheets: Iterable[Sheet],
    plots: Iterable[Path] = (),
    lead: Lead | None = None,
    sources: Iterable[Origins] = (),
) -> str:
    """A page of Markdown with links to the plots and to the configs of runs."""
    parts = [f"# {markdown_text(title)}"]
    if lead:
        parts += [f"**{markdown_text(text)}**" for text in (lead.verdict, lead.note) if text]
        parts.append(markdown_table(["", ""], [list(fact) for fact in lead.facts]))
    for sheet in sheets:
        rows = [[marked(sheet, i, j, markdown_text(cell), "**{}**") for j, cell in enumerate(row)]
                for i, row in enumerate(sheet.rows)]  # fmt: skip
        aligned = [j in sheet.words for j in range(1, len(sheet.header))]
        table = markdown_table(sheet.header, rows, aligned, escaped=True)
        parts += [f"## {markdown_text(sheet.title)}", table, markdown_text(sheet.caption)]
    parts += [f"![{path.stem}]({path.name})" for path in plots]
    lines = [
        [markdown_text(cell.row), markdown_text(cell.task), f"[{one.seed}]({one.config})", f"{one.score:.2f}",
         f"`{one.command.replace('|', '&#124;')}`" if "`" not in one.command else markdown_text(one.command)]
        for cell in sources
        for one in cell.runs
    ]  # fmt: skip
    if lines:
        header = ["method", "task", "seed and config", "score", "command"]
        parts += ["## Runs", markdown_table(header, lines, [True, False, False, True], escaped=True)]
    return "\n\n".join(parts) + "\n"


def markdown_table(
    header: list[str], rows: list[list[str]], words: list[bool] | None = None, escaped: bool = False
) -> str:
    """A table; columns that hold words are aligned to the left."""
    left = words or [True] * (len(header) - 1)
    aligned = [":--", *(":--" if word else "--:" for word in left)]
    cells = rows if escaped else [[markdown_text(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in ([markdown_text(name) for name in header], aligned, *cells))


def marked(sheet: Sheet, row: int, column: int, text: str, bold: str) -> str:
    """A cell's text, bold if it is the best of its column, and with a sign if it is not worse or that is unknown."""
    place = sheet.marks.get((row, column))
    sign = SIGNS.get(place or "", "")
    return bold.format(text) if place == "best" else f"{text} {sign}" if sign else text


def markdown_text(text: str) -> str:
    """Escape text for Markdown, also within a table."""
    return re.sub(r"([\\`*_\[\]|^~#])", r"\\\1", html.escape(one_line(text), quote=False))


def latex(sheets: Iterable[Sheet], lead: Lead | None = None) -> str:
    """Tables for a paper that loads `booktabs`, below the verdict."""
    parts = []
    if lead:
        parts = [f"{latex_text(text)}\n" for text in (lead.verdict, lead.note) if text]
        facts = [[*map(latex_text, fact)] for fact in lead.facts]
        parts.append(latex_table("What was run", "", facts, r"lp{0.75\linewidth}"))
    for sheet in sheets:
        rows = [[marked_latex(sheet, i, j, cell) for j, cell in enumerate(row)] for i, row in enumerate(sheet.rows)]
        columns = "".join("l" if j in sheet.words or not j else "r" for j in range(len(sheet.header)))
        header = [*map(latex_text, sheet.header)]
        parts.append(latex_table(sheet.title, sheet.caption, rows, columns, header))
    return "\n".join(parts)


def marked_latex(sheet: Sheet, row: int, column: int, text: str) -> str:
    """A cell with its mark."""
    place = sheet.marks.get((row, column))
    shown = latex_text(text if place == "best" else marked(sheet, row, column, text, "{}"))
    return rf"\textbf{{{shown}}}" if place == "best" else shown


def latex_table(title: str, caption: str, rows: list[list[str]], columns: str, header: list[str] | None = None) -> str:
    """One table, whose cells are LaTeX."""
    top = [r"\toprule", *([" & ".join(header) + r" \\", r"\midrule"] if header else [])]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(title)}.{' ' if caption else ''}{latex_text(caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            *top,
            *(" & ".join(row) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def latex_text(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(LATEX.get(character, character) for character in one_line(text))


def one_line(text: str) -> str:
    """Text without line breaks."""
    return " ".join(text.split())
