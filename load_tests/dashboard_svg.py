"""Panels of a dashboard with their answers, as a page of HTML.

Enters: panels, and the series that each of their queries came to. Leaves: HTML with SVG inside, no scripts. Must not
know: where the answers come from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import isfinite

from load_tests.dashboard import Panel

WIDTH, HEIGHT = 420, 150  # of a drawing
PAGE_WIDTH_PX = 1368
# as the style below has them
HEAD_PX, ROW_HEAD_PX, GRAPH_PX, STAT_PX, MARGIN_PX = 40, 30, 27 * 8, 9 * 8, 14
COLUMNS = 6  # a stat takes one, all else two
LEFT, BOTTOM = 52, 18
MOST_NAMED = 8
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b58900", "#56b4e9", "#7f3c00", "#44aa99", "#999999", "#333399")
SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))
BINARY = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_STYLE = """
* { box-sizing: border-box }
body { margin: 0; padding: 14px; width: 1368px; background: #f4f5f5; color: #24292e }
body, text { font: 12px "DejaVu Sans", sans-serif }
header { height: 40px } h1 { font-size: 18px; margin: 0 } p { margin: 0; color: #6e6e6e }
h2 { font-size: 13px; margin: 0; height: 30px; padding-top: 10px } h3 { font-size: 12px; margin: 0 0 4px }
section { display: grid; grid-template-columns: repeat(6, 1fr); column-gap: 8px; grid-auto-rows: 8px }
article { background: #fff; border: 1px solid #e4e5e6; border-radius: 3px; padding: 6px 8px; margin-bottom: 8px }
article { grid-column: span 2; grid-row: span 27; overflow: hidden }
article.stat { grid-column: span 1; grid-row: span 9 } .stat b { font-size: 24px; font-weight: 500 }
svg { display: block } text { font-size: 10px; fill: #6e6e6e }
.legend { font-size: 10px; line-height: 14px; height: 28px; overflow: hidden; margin-top: 2px }
.legend i { display: inline-block; width: 9px; height: 3px; margin: 0 4px 3px 0 } .legend span { margin-right: 10px }
td, th { text-align: left; padding: 1px 10px 1px 0 }
"""


@dataclass(frozen=True, slots=True)
class Series:
    """`points` are Unix seconds and values, in the order of time."""

    name: str
    labels: tuple[tuple[str, str], ...]
    points: tuple[tuple[float, float], ...]


def legend_of(legend: str, labels: dict[str, str]) -> str:
    """A query's legend with the values of a series' labels."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)


def page(title: str, note: str, answered: Sequence[tuple[Panel, Sequence[Series]]]) -> str:
    """All panels in rows."""
    out = [f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>"]
    out.append(f"<header><h1>{escape(title)}</h1><p>{escape(note)}</p></header>")
    for row in dict.fromkeys(panel.row for panel, _ in answered):
        cells = "".join(_cell(panel, series) for panel, series in answered if panel.row == row)
        out.append(f"<h2>{escape(row)}</h2><section>{cells}</section>")
    return "".join(out)


def page_height_px(shown: Sequence[Panel]) -> int:
    """How high the page of these panels is."""
    height = HEAD_PX + 2 * MARGIN_PX
    for row in dict.fromkeys(panel.row for panel in shown):
        height += ROW_HEAD_PX
        line_px = used = 0
        for stat in (panel.shape == "stat" for panel in shown if panel.row == row):
            if used + 2 - stat > COLUMNS:
                height, line_px, used = height + line_px, 0, 0
            line_px, used = max(line_px, STAT_PX if stat else GRAPH_PX), used + 2 - stat
        height += line_px
    return height


def _cell(panel: Panel, series: Sequence[Series]) -> str:
    title = f"<h3>{escape(panel.title)}</h3>"
    if panel.shape == "stat":
        latest = series[0].points[-1][1] if series and series[0].points else float("nan")
        return f'<article class="stat">{title}<b>{shown(latest, panel.unit)}</b></article>'
    if panel.shape == "table":
        return f"<article>{title}{_table(series)}</article>"
    return f"<article>{title}{_graph(panel, series)}</article>"


def _table(series: Sequence[Series]) -> str:
    hidden = {"__name__", "job", "instance"}
    names = [name for name, _ in series[0].labels if name not in hidden] if series else []
    out = [f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in names)}</tr>"]
    for one in series:
        held = dict(one.labels)
        out.append(f"<tr>{''.join(f'<td>{escape(held[name])}</td>' for name in names)}</tr>")
    return "".join(out) + "</table>"


def _graph(panel: Panel, series: Sequence[Series]) -> str:
    drawn = [one for one in series if any(isfinite(value) for _, value in one.points)]
    if not drawn:
        return f'<svg width="{WIDTH}" height="{HEIGHT}"><text x="180" y="75">No data</text></svg>'
    lines = _stacked(drawn) if panel.stacked else [list(one.points) for one in drawn]
    times = [at for line in lines for at, _ in line]
    top = max(value for line in lines for _, value in line if isfinite(value)) or 1.0
    begin_s, span_s = min(times), max(max(times) - min(times), 1.0)

    def place(at_s: float, value: float) -> str:
        x = LEFT + (at_s - begin_s) / span_s * (WIDTH - LEFT)
        return f"{x:.1f},{(HEIGHT - BOTTOM) * (1 - value / (1.05 * top)):.1f}"

    out = [f'<svg width="{WIDTH}" height="{HEIGHT}">', *_axes(panel.unit, top, span_s)]
    below = [(at, 0.0) for at, _ in lines[0]]
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        if panel.stacked:
            edge = " ".join(place(*point) for point in [*line, *reversed(below)])
            out.append(f'<polygon points="{edge}" fill="{colour}" fill-opacity=".65"/>')
            below = line
        else:
            out += [
                f'<polyline points="{" ".join(place(*point) for point in part)}" fill="none" stroke="{colour}"/>'
                for part in _parts(line)
            ]
    return "".join(out) + "</svg>" + _legend([one.name for one in drawn])


def _parts(line: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """A line without its gaps: where it has no number, or misses steps."""
    points = [point for point in line if isfinite(point[1])]
    step_s = min((later[0] - one[0] for one, later in pairwise(points)), default=0.0)
    parts = [points[:1]]
    for one, later in pairwise(points):
        if later[0] - one[0] > 1.5 * step_s:
            parts.append([])
        parts[-1].append(later)
    return parts


def _stacked(series: Sequence[Series]) -> list[list[tuple[float, float]]]:
    """Upper edges, one on the other, at the times of all of them."""
    times = sorted({at for one in series for at, _ in one.points})
    sums = dict.fromkeys(times, 0.0)
    edges = []
    for one in series:
        for at, value in one.points:
            sums[at] += value if isfinite(value) else 0.0
        edges.append([(at, sums[at]) for at in times])
    return edges


def _axes(unit: str, top: float, span_s: float) -> list[str]:
    out = []
    for share in (0.0, 0.5, 1.0):
        y = (HEIGHT - BOTTOM) * (1 - share / 1.05)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e5e6"/>')
        out.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{shown(share * top, unit)}</text>')
    for share in (0.0, 0.5, 1.0):
        x, anchor = LEFT + share * (WIDTH - LEFT), ("start", "middle", "end")[int(2 * share)]
        out.append(f'<text x="{x:.0f}" y="{HEIGHT - 4}" text-anchor="{anchor}">{share * span_s / 60:.1f} min</text>')
    return out


def _legend(names: Sequence[str]) -> str:
    shown_names = "".join(
        f'<span><i style="background:{COLOURS[number % len(COLOURS)]}"></i>{escape(name)}</span>'
        for number, name in enumerate(names[:MOST_NAMED])
    )
    more = f"and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f'<div class="legend">{shown_names}{more}</div>'


def shown(value: float, unit: str) -> str:
    """A number with its unit as Grafana would show it."""
    if not isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    scales = BINARY if unit == "bytes" else SCALES
    scale, sign = next(((scale, sign) for scale, sign in scales if abs(value) >= scale), (1.0, ""))
    end = {"s": "s", "reqps": "/s"}.get(unit, "")
    return f"{value / scale:.3g} {sign}{end}".rstrip()
