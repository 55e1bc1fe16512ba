"""Lines on axes as an SVG, side by side: readable on light and dark ground, without a plotting library.

Enters: panels of lines. Leaves: the text of an SVG. Must not know: what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from xml.sax.saxutils import escape

PANEL_WIDTH, PANEL_HEIGHT = 410, 320
LEFT, RIGHT, TOP, BOTTOM = 76, 14, 68, 52  # of a panel, around its axes
HEAD = 44
MOST_TICKS = 6
LEGEND_SIGN, LEGEND_LETTER, LEGEND_GAP, LEGEND_ROW = 20, 7.0, 12, 15

# dark blue, orange, green and purple that eyes of all kinds tell apart (Wong 2011), brighter on dark ground
_STYLE = """
svg { color-scheme: light dark; }
text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #24292f; }
.head { font-size: 15px; font-weight: 600; } .title { font-size: 13px; font-weight: 600; }
.ground { fill: #ffffff; } .grid { stroke: #d0d7de; } .axis { stroke: #57606a; }
.line { fill: none; stroke-width: 2; } .dashed { stroke-dasharray: 5 4; }
.l0 { stroke: #0072b2; } .l1 { stroke: #d55e00; } .l2 { stroke: #009e73; } .l3 { stroke: #aa4499; }
.d0 { fill: #0072b2; } .d1 { fill: #d55e00; } .d2 { fill: #009e73; } .d3 { fill: #aa4499; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .ground { fill: #0d1117; } .grid { stroke: #30363d; } .axis { stroke: #8b949e; }
.l0 { stroke: #56b4e9; } .l1 { stroke: #e69f00; } .l2 { stroke: #2fd0a0; } .l3 { stroke: #e07fd0; }
.d0 { fill: #56b4e9; } .d1 { fill: #e69f00; } .d2 { fill: #2fd0a0; } .d3 { fill: #e07fd0; }
}
"""
COLOURS = 4


@dataclass(frozen=True, slots=True)
class Line:
    """Points in the order of x; a dashed line is a reference, and has no marks."""

    name: str
    points: tuple[tuple[float, float], ...]
    dashed: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """Axes with their units; both begin at 0, but for y with `log_y`, where all y must be above 0."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_y: bool


@dataclass(frozen=True, slots=True)
class _Axis:
    """Values onto pixels; `ticks` are among the values."""

    low: float
    high: float
    first_px: float
    last_px: float
    log: bool
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        low, high, here = (log10(one) if self.log else one for one in (self.low, self.high, value))
        return self.first_px + (here - low) / (high - low) * (self.last_px - self.first_px)


def linear_ticks(highest: float) -> tuple[float, ...]:
    """From 0 to the first round number that is no smaller than `highest` (above 0), evenly."""
    rough = highest / (MOST_TICKS - 1)
    unit = 10.0 ** floor(log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough * (1 - 1e-9))
    return tuple(i * step for i in range(ceil(highest / step - 1e-9) + 1))


def log_ticks(lowest: float, highest: float) -> tuple[float, ...]:
    """1, 2 and 5 times powers of ten (powers alone over more than three) that hold all from lowest to highest."""
    first, last = floor(log10(lowest)), ceil(log10(highest))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    begin = max(i for i, tick in enumerate(ticks) if tick <= lowest * (1 + 1e-9))
    end = min(i for i, tick in enumerate(ticks) if tick >= highest * (1 - 1e-9))
    return tuple(ticks[begin : max(end, begin + 1) + 1])


def chart(head: str, panels: Sequence[Panel]) -> str:
    """The panels side by side under a headline."""
    width, height = PANEL_WIDTH * len(panels), HEAD + PANEL_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(head, {chr(34): "&quot;"})}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{width}" height="{height}"/>',
        _text(16, 27, head, "head"),
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * PANEL_WIDTH},{HEAD})">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel) -> Iterator[str]:
    points = [point for line in panel.lines for point in line.points]
    ys = [y for _, y in points]
    x_ticks = linear_ticks(max(x for x, _ in points))
    y_ticks = log_ticks(min(ys), max(ys)) if panel.log_y else linear_ticks(max(ys))
    bottom, right = PANEL_HEIGHT - BOTTOM, PANEL_WIDTH - RIGHT
    x_axis = _Axis(x_ticks[0], x_ticks[-1], LEFT, right, False, x_ticks)
    y_axis = _Axis(y_ticks[0], y_ticks[-1], bottom, TOP, panel.log_y, y_ticks)
    yield _text(LEFT, 18, panel.title, "title")
    yield from _legend(panel.lines)
    for tick in y_ticks:
        y = y_axis.at(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(LEFT - 7, y + 4, f"{tick:,.10g}", anchor="end")
    for tick in x_ticks:
        x = x_axis.at(tick)
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        yield _text(x, bottom + 18, f"{tick:,.10g}", anchor="middle")
    yield f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
    yield _text((LEFT + right) / 2, bottom + 40, panel.x_label, anchor="middle")
    y_label = _text(0, 0, panel.y_label, anchor="middle")
    yield f'<g transform="translate(16,{(TOP + bottom) / 2}) rotate(-90)">{y_label}</g>'
    for number, line in enumerate(panel.lines):
        yield from _line(line, number % COLOURS, x_axis, y_axis)


def _line(line: Line, colour: int, x_axis: _Axis, y_axis: _Axis) -> Iterator[str]:
    at = [(x_axis.at(x), y_axis.at(y)) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    yield f'<polyline class="line l{colour}{" dashed" if line.dashed else ""}" points="{path}"/>'
    if not line.dashed:
        for (x, y), (value_x, value_y) in zip(at, line.points, strict=True):
            told = escape(f"{line.name}: {value_x:,.4g}, {value_y:,.4g}")
            yield f'<circle class="d{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{told}</title></circle>'


def _legend(lines: Sequence[Line]) -> Iterator[str]:
    x, y = float(LEFT), 38.0
    for number, line in enumerate(lines):
        width = LEGEND_SIGN + 6 + LEGEND_LETTER * len(line.name)
        if x > LEFT and x + width > PANEL_WIDTH - RIGHT:
            x, y = float(LEFT), y + LEGEND_ROW
        sign = f"line l{number % COLOURS}{' dashed' if line.dashed else ''}"
        yield f'<polyline class="{sign}" points="{x:.1f},{y - 4:.1f} {x + LEGEND_SIGN:.1f},{y - 4:.1f}"/>'
        yield _text(x + LEGEND_SIGN + 6, y, line.name)
        x += width + LEGEND_GAP


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named} text-anchor="{anchor}">{escape(text)}</text>'
