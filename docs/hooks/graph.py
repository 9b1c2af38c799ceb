"""Draws the `graph TD` of a page, which GitHub draws by Mermaid, as SVG: Mermaid would be fetched."""

import re
from graphlib import TopologicalSorter

ARROW = re.compile(r"^\s*(\w+) --> (\w+)$", re.MULTILINE)
WIDTH, HEIGHT, GAP = 116, 34, 78


def draw(text: str) -> str:
    """The picture of arrows, one `a --> b` a line: each node stands above all that it points to."""
    below: dict[str, set[str]] = {}
    for source, target in ARROW.findall(text):
        below.setdefault(source, set()).add(target)
        below.setdefault(target, set())
    depth: dict[str, int] = {}
    for node in TopologicalSorter(below).static_order():
        depth[node] = max((depth[one] + 1 for one in below[node]), default=0)
    rows = [[node for node in below if depth[node] == level] for level in range(max(depth.values()), -1, -1)]
    width = max(map(len, rows)) * (WIDTH + 24)
    middle = {
        node: ((column + 0.5) * width / len(row), 20 + level * GAP)
        for level, row in enumerate(rows)
        for column, node in enumerate(row)
    }
    lines = [line(middle[source], middle[target]) for source in below for target in sorted(below[source])]
    boxes = [box(node, *place) for node, place in middle.items()]
    size = f'viewBox="0 0 {width} {len(rows) * GAP - GAP + 44}" style="max-width: {width}px; width: 100%"'
    return f'<div><svg {size} role="img" font-size="14">{"".join(lines + boxes)}</svg></div>'


def line(source: tuple[float, float], target: tuple[float, float]) -> str:
    """A curve from below one box to above another."""
    (x1, y1), (x2, y2) = source, target
    y1, y2 = y1 + HEIGHT / 2, y2 - HEIGHT / 2
    bend = min(40, (y2 - y1) / 2)
    path = f"M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend - 6:.0f} {x2:.0f} {y2 - 6:.0f}"
    head = f"M{x2 - 5:.0f} {y2 - 8:.0f}h10l-5 8z"
    return f'<path d="{path}" fill="none" stroke="#8b949e" stroke-width="1.5"/><path d="{head}" fill="#8b949e"/>'


def box(name: str, x: float, y: float) -> str:
    """A node."""
    place = f'x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="6"'
    return (
        f'<rect {place} fill="var(--md-default-bg-color)" stroke="#17998c" stroke-width="1.5"/>'
        f'<text x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle" fill="currentColor">{name}</text>'
    )
