"""Renders a report as one HTML page that needs no other file and no network."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from kronlit.studies.report.figures import Figure
from kronlit.studies.report.origins import Origins
from kronlit.studies.report.render import SIGNS, Lead
from kronlit.studies.report.sheets import Sheet
from kronlit.studies.report.svg import WIDTH, escape, swatch

HERE = Path(__file__).parent
LEGEND_LINE = 20
GAP = 16
SAYS = {"not worse": "not significantly worse than the best", "unknown": "whether it is worse cannot be told"}


def page(
    title: str,
    sheets: Iterable[Sheet],
    figures: Iterable[Figure] = (),
    lead: Lead | None = None,
    sources: Sequence[Origins] = (),
    footer: str = "",
) -> str:
    """The page.

    Args:
        title: its title.
        sheets: the tables. Figures stand below the first.
        figures: the figures.
        lead: verdict, note and box.
        sources: the runs behind the cells.
        footer: a last line.
    """
    first, *others = [html_table(sheet, {one.anchor for one in sources}) for sheet in sheets]
    before = lead_html(lead) if lead else []
    body = [
        f"<header><h1>{escape(title)}</h1></header>",
        *before,
        first,
        *map(figure_html, figures),
        *others,
        *sources_html(sources),
        *([f"<footer>{escape(footer)}</footer>"] if footer else []),
    ]
    style = "".join((HERE / name).read_text(encoding="utf-8") for name in ("plot.css", "page.css"))
    script = (HERE / "page.js").read_text(encoding="utf-8")
    head = [
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{style}</style>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n' + "\n".join(head) + "\n</head>\n<body>\n" + "\n".join(body)
        + f"\n<script>\n{script}</script>\n</body>\n</html>\n"
    )  # fmt: skip


def lead_html(lead: Lead) -> list[str]:
    """The verdict, the note and the box."""
    facts = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in lead.facts)
    return [
        f'<p class="verdict">{escape(lead.verdict)}</p>',
        *([f'<p class="note">{escape(lead.note)}</p>'] if lead.note else []),
        *(
            [f'<details class="box" open><summary>What was run</summary>\n<dl>\n{facts}\n</dl></details>']
            if facts
            else []
        ),
    ]


def html_table(sheet: Sheet, anchors: set[str]) -> str:
    """One table with its heading and caption."""
    words = {j for j in sheet.words if j}
    head = "".join(
        f"<th{' class=word' if j in words else ''}>{escape(cell)}</th>" for j, cell in enumerate(sheet.header)
    )
    lines = []
    for i, row in enumerate(sheet.rows):
        kind = ' class="published"' if row[0].endswith(", published") else ""
        cells = "".join(html_cell(sheet, i, j, cell, anchors) for j, cell in enumerate(row))
        lines.append(f"<tr{kind}>{cells}</tr>")
    return "\n".join(
        [
            f"<h2>{escape(sheet.title)}</h2>",
            f'<p class="caption">{escape(sheet.caption)}</p>',
            f'<div class="scroll" tabindex="0"><table class="sorts">\n<thead><tr>{head}</tr></thead>\n<tbody>',
            *lines,
            "</tbody></table></div>",
        ]
    )


def html_cell(sheet: Sheet, row: int, column: int, text: str, anchors: set[str]) -> str:
    """One cell, with its mark and a link to the runs behind it."""
    place = sheet.marks.get((row, column))
    kinds = [
        *(["word"] if column and column in sheet.words else []),
        *(["best"] if place == "best" else []),
        *(["missing"] if text == "missing" else []),
        *(["warn"] if sheet.header[column] == "warning" else []),
    ]
    shown = escape(text)
    if sheet.links.get((row, column)) in anchors:
        shown = f'<a href="#{sheet.links[row, column]}">{shown}</a>'
    if any(j == column for _, j in sheet.marks):  # room for a sign in all cells of the column keeps numbers in line
        said = f' title="{SAYS[place]}"' if place in SAYS else ""
        shown += f'<span class="sign"{said}> {SIGNS.get(place or "", "")}</span>'
    return f'<td{f""" class="{" ".join(kinds)}" """.rstrip() if kinds else ""}>{shown}</td>'


def figure_html(figure: Figure) -> str:
    """A figure with its legend."""
    items = "".join(f"<li>{swatch(i, figure.joined)}<span>{escape(name)}</span></li>" for i, name in figure.legend)
    return "\n".join(
        [
            f"<h2>{escape(figure.title)}</h2>",
            f'<p class="caption">{escape(figure.caption)}</p>',
            *([f'<ul class="legend">{items}</ul>'] if items else []),
            '<div class="panels">',
            *(panel.svg() for panel in figure.panels),
            "</div>",
        ]
    )


def sources_html(sources: Sequence[Origins]) -> list[str]:
    """The configs and commands behind the numbers, to be unfolded; of several tasks, below the method."""
    several = len({cell.task for cell in sources}) > 1
    by_row: dict[str, list[str]] = {}
    for cell in sources:
        runs = "".join(
            f'<p>Seed {one.seed}: {one.score:.2f} · <a href="{escape(one.config)}">config.yaml</a></p>'
            f"<pre>{escape(one.command)}</pre>"
            for one in cell.runs
        )
        name = f"{escape(cell.row)} · {escape(cell.task)}"
        cells = by_row.setdefault(cell.row, [])
        cells.append(f'<details id="{cell.anchor}"><summary>{name}</summary><div>{runs}</div></details>')
    if not by_row:
        return []
    parts = [
        f"<details><summary>{escape(row)}</summary><div>{''.join(cells)}</div></details>" if several else cells[0]
        for row, cells in by_row.items()
    ]
    return ["<h2>Runs</h2>", '<p class="caption">The config and the command behind each number.</p>', *parts]


def picture(figure: Figure) -> str:
    """A figure as an SVG file, with its legend below."""
    columns = min(3, len(figure.panels))
    height = max(panel.height for panel in figure.panels)
    lines = -(-len(figure.panels) // columns)
    wide, top = columns * (WIDTH + GAP), lines * (height + GAP)
    per_line = max(1, wide // 190)
    tall = top + LEGEND_LINE * -(-len(figure.legend) // per_line)
    parts = [
        panel.svg(n % columns * (WIDTH + GAP), n // columns * (height + GAP)) for n, panel in enumerate(figure.panels)
    ]
    for n, (i, name) in enumerate(figure.legend):
        x, y = n % per_line * 190 + 8, top + n // per_line * LEGEND_LINE
        shown = name if len(name) <= 24 else f"{name[:23]}…"
        parts.append(f'<g transform="translate({x},{y:g})">{swatch(i, figure.joined)}')
        parts.append(f'<text x="34" y="11">{escape(shown)}</text></g>')
    style = (HERE / "plot.css").read_text(encoding="utf-8")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:g}" height="{tall:g}" viewBox="0 0 {wide:g} {tall:g}">\n'
        f"<style>{style}svg {{ background: var(--paper); }}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )
