"""Draws panels as SVG text: axes, ticks, and markers that differ by both colour and shape.

Colours are CSS classes, so that a page can have them light and dark. Coordinates are pixels of the panel.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 24, 38
COLOURS = 8
SHAPES = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",  # circle
    "M-3.6,-3.6h7.2v7.2h-7.2z",  # square
    "M0,-4.8L4.6,3.4H-4.6z",  # triangle
    "M0,-5.2L4.6,0L0,5.2L-4.6,0z",  # diamond
    "M0,4.8L4.6,-3.4H-4.6z",  # triangle downwards
    "M-1.6,-4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3z",  # plus
    "M0,-5L4.8,-1.5L2.9,4H-2.9L-4.8,-1.5z",  # pentagon
)
DASHES = ("", "6 3", "2 3", "8 3 2 3", "4 2")


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels.

    Args:
        low: the value at `start`.
        high: the value at `end`.
        start: pixel of `low`.
        end: pixel of `high`.
        log: whether the axis is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, here = map(math.log10, (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return self.start + (self.end - self.start) * (here - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values within the axis, at most about six."""
        if self.log:
            return log_ticks(self.low, self.high)
        step = round_up((self.high - self.low) / 6)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def round_up(value: float) -> float:
    """The next of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * (1 - 1e-9))


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within an axis; where these are fewer than two, also twice and five times them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [n * 10.0**power for power in powers for n in factors]
        within = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(within) > 2:
            break
    return within[:: -(-len(within) // 6)] if within else [low]


def axis(values: Sequence[float], start: float, end: float, log: bool = False, margin: float = 0.08) -> Axis:
    """An axis that shows all `values`, with a margin at both ends. A single value gets room around it."""
    low, high = min(values), max(values)
    if log:
        pad = max((high / low) ** margin, 1.3)
        return Axis(low / pad, high * pad, start, end, True)
    pad = (high - low) * margin or max(abs(high) * 0.02, 1.0)
    return Axis(low - pad, high + pad, start, end)


def number(value: float) -> str:
    """A tick's text."""
    if value and (abs(value) >= 10_000 or abs(value) < 0.001):
        for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= size:
                return f"{value / size:g}{unit}"
        power = math.floor(math.log10(abs(value)) + 1e-9)
        return f"{value / 10.0**power:.3g}e{power}"
    return f"{value:.6g}"


@dataclass
class Panel:
    """A plot with a title, into which shapes are put.

    Args:
        title: title above it; its text is cut to the width.
        x: the horizontal axis.
        y: the vertical axis; `None` if the panel labels its own lines.
        x_label: what the horizontal axis shows.
        y_label: what the vertical axis shows.
        height: height in pixels.
        left: where the drawing begins.
        parts: elements, as SVG.
    """

    title: str
    x: Axis
    y: Axis | None
    x_label: str
    y_label: str = ""
    height: float = HEIGHT
    left: float = LEFT
    parts: list[str] = field(default_factory=list)

    def marker(self, x: float, y: float, row: int, said: str, kind: str = "") -> None:
        """Put the marker of a row at a pixel; the text `said` shows when it is pointed at."""
        name = f"mark c{row % COLOURS} {kind}".strip()
        self.parts.append(
            f'<path class="{name}" d="{SHAPES[row % len(SHAPES)]}" transform="translate({x:.1f},{y:.1f})">'
            f"<title>{escape(said)}</title></path>"
        )

    def line(self, points: Sequence[tuple[float, float]], kind: str, row: int | None = None, dash: str = "") -> None:
        """Connect pixels by a line."""
        name = kind if row is None else f"{kind} c{row % COLOURS}"
        dash = DASHES[row // COLOURS % len(DASHES)] if row is not None and kind == "curve" else dash
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline class="{name}" points="{pixels(points)}"{dashed}/>')

    def area(self, points: Sequence[tuple[float, float]], row: int) -> None:
        """Fill what pixels surround."""
        self.parts.append(f'<polygon class="band c{row % COLOURS}" points="{pixels(points)}"/>')

    def ring(self, x: float, y: float, warns: bool) -> None:
        """Put a ring around a marker; a dashed one `warns`."""
        self.parts.append(f'<circle class="ring{" edge" if warns else ""}" cx="{x:.1f}" cy="{y:.1f}" r="8"/>')

    def bar(self, x: float, y: float, row: int, said: str) -> None:
        """Draw a bar from the left of the panel to `x`."""
        self.parts.append(
            f'<rect class="bar c{row % COLOURS}" x="{self.left}" y="{y - 6:.1f}" width="{x - self.left:.1f}" '
            f'height="12"><title>{escape(said)}</title></rect>'
        )

    def text(self, x: float, y: float, said: str, kind: str = "", anchor: str = "start", most: int = 99) -> None:
        """Write text, cut to `most` characters; pointing at it shows all."""
        shown = said if len(said) <= most else f"{said[: most - 1]}…"
        whole = f"<title>{escape(said)}</title>" if shown != said else ""
        name = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}>{escape(shown)}{whole}</text>')

    def svg(self, x: float | None = None, y: float | None = None) -> str:
        """The panel as an element; with a place, to be put into another picture."""
        place = "" if x is None else f' x="{x:g}" y="{y:g}" width="{WIDTH}" height="{self.height:g}"'
        label = escape(f"{self.title}: {self.y_label or 'score'} over {self.x_label}")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height:g}"{place} role="img" '
            f'aria-label="{label}">\n' + "\n".join([*self.frame(), *self.parts]) + "\n</svg>"
        )

    def frame(self) -> list[str]:
        """Title, axes, ticks and grid."""
        parts, self.parts = self.parts, []
        bottom = self.height - BOTTOM
        self.text(self.left if self.y else 4, 14, self.title, "title", most=46)
        for tick in self.x.ticks():
            here = self.x.at(tick)
            self.line([(here, TOP), (here, bottom)], "grid")
            self.text(here, bottom + 14, number(tick), anchor="middle")
        self.text((self.left + WIDTH - RIGHT) / 2, self.height - 6, self.x_label, anchor="middle", most=50)
        for tick in self.y.ticks() if self.y else []:
            here = self.y.at(tick) if self.y else 0.0
            self.line([(self.left, here), (WIDTH - RIGHT, here)], "grid")
            self.text(self.left - 5, here + 3.5, number(tick), anchor="end")
        self.line([(self.left, bottom), (WIDTH - RIGHT, bottom)], "axis")
        drawn, self.parts = self.parts, parts
        return drawn


def pixels(points: Sequence[tuple[float, float]]) -> str:
    """Pixels as SVG writes them."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def escape(text: str) -> str:
    """Text for SVG and HTML, on one line."""
    return html.escape(" ".join(text.split()))


def swatch(row: int, joined: bool) -> str:
    """The marker of a row in a legend, on a piece of its line if its points are joined by one."""
    panel = Panel("", Axis(0, 1, 0, 1), None, "")
    if joined:
        panel.line([(0, 7), (28, 7)], "curve", row)
    panel.marker(14, 7, row, "")
    inside = "".join(panel.parts)
    return f'<svg class="swatch" viewBox="0 0 28 14" width="28" height="14" aria-hidden="true">{inside}</svg>'


def spread(
    points: Sequence[tuple[float, float]], low: float, high: float, near: float = 10.0
) -> list[tuple[float, float]]:
    """Move markers sideways that would hide others, as little as possible and between the pixels `low` and `high`."""
    placed: dict[int, tuple[float, float]] = {}
    for i in sorted(range(len(points)), key=lambda i: points[i]):
        x, y = points[i]
        steps = sorted(range(-len(points), len(points) + 1), key=abs)
        tries = [(x + step * (near + 1), y) for step in steps]
        free = (at for at in tries if low <= at[0] <= high and all(math.dist(at, p) >= near for p in placed.values()))
        placed[i] = next(free, points[i])
    return [placed[i] for i in range(len(points))]
