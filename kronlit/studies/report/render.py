"""Renders sheets as Markdown, LaTeX and HTML, with all text escaped."""

import base64
import html
import re
from collections.abc import Iterable
from pathlib import Path

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
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } p { color: #555; max-width: 48rem; }
div { overflow-x: auto; } img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e3e3e3; }
th { border-bottom: 2px solid #1a1a1a; } th:first-child, td:first-child { text-align: left; }
table.words td, table.words th { text-align: left; white-space: normal; overflow-wrap: anywhere; }
tr.published td { color: #777; font-style: italic; } td.missing { color: #a11; }
"""


def markdown(title: str, sheets: Iterable[Sheet], plots: Iterable[Path] = ()) -> str:
    """A page of Markdown with links to the plots."""
    parts = [f"# {markdown_text(title)}"]
    for sheet in sheets:
        lines = [sheet.header, [":--", *("--:" for _ in sheet.header[1:])], *sheet.rows]
        cells = [[cell if i == 1 else markdown_text(cell) for cell in line] for i, line in enumerate(lines)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in cells)
        parts += [f"## {markdown_text(sheet.title)}", table, markdown_text(sheet.caption)]
    parts += [f"![{path.stem}]({path.name})" for path in plots]
    return "\n\n".join(parts) + "\n"


def markdown_text(text: str) -> str:
    """Escape text for Markdown, also within a table."""
    return re.sub(r"([\\`*_\[\]|^~#])", r"\\\1", html.escape(one_line(text), quote=False))


def latex(sheets: Iterable[Sheet]) -> str:
    """Tables for a paper that loads `booktabs`."""
    return "\n".join(latex_table(sheet) for sheet in sheets)


def latex_table(sheet: Sheet) -> str:
    """One table."""
    lines = [" & ".join(map(latex_text, line)) + r" \\" for line in (sheet.header, *sheet.rows)]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(sheet.title)}. {latex_text(sheet.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(sheet.header) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def latex_text(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(LATEX.get(character, character) for character in one_line(text))


def page(title: str, sheets: Iterable[Sheet], plots: Iterable[tuple[str, Path]] = ()) -> str:
    """A single HTML page that needs no other file.

    Args:
        title: title of the page.
        sheets: the tables.
        plots: captions and PNG files.
    """
    parts = [html_table(sheet) for sheet in sheets]
    for caption, path in plots:
        content = path.read_bytes()
        width = (
            int.from_bytes(content[16:20], "big") * 2 // 3
        )  # of the header: pixels, of which plots have three for two
        shown, data = html.escape(caption), base64.b64encode(content).decode()
        image = f'<img alt="{shown}" width="{width}" src="data:image/png;base64,{data}">'
        parts.append(f"<h2>{html.escape(path.stem.replace('_', ' ').capitalize())}</h2>\n<p>{shown}</p>\n{image}")
    head = f'<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n<style>{STYLE}</style>'
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def html_table(sheet: Sheet) -> str:
    """One table with its heading and caption."""
    words = ' class="words"' if sheet.header[0] == "run" or sheet.header[-1] == "point" else ""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in sheet.header)
    lines = []
    for row in sheet.rows:
        kind = ' class="published"' if row[0].endswith(", published") else ""
        cells = (f"<td{' class=missing' if cell == 'missing' else ''}>{html.escape(cell)}</td>" for cell in row)
        lines.append(f"<tr{kind}>{''.join(cells)}</tr>")
    table = (
        f"<div><table{words}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )
    return f"<h2>{html.escape(sheet.title)}</h2>\n<p>{html.escape(sheet.caption)}</p>\n{table}"


def one_line(text: str) -> str:
    """Text without line breaks."""
    return " ".join(text.split())
