"""Pictures of an evaluation: how far scores can be trusted, what abstention brings, which labels are confused.

Enters: a FacetResult. Leaves: the text of an SVG; names of others are made printable and escaped. Must not know: how
lines are drawn (see `bench/chart.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from xml.sax.saxutils import escape

from streamer.bench.chart import Line, Panel, chart
from streamer.terminal import printable
from streamer.tuning.evaluate_result import FacetResult

MOST_LABELS = 30  # of a confusion picture
NAME_CHARACTERS = 24
CELL, LETTER, HEAD_LETTER, MARGIN, HEAD = 26, 6.6, 9.0, 16, 44
NO_LABEL = "(no label)"

_STYLE = """
svg { color-scheme: light dark; }
text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: #24292f; }
.head { font-size: 15px; font-weight: 600; } .axis { font-size: 12px; font-weight: 600; }
.ground { fill: #ffffff; } .empty { fill: #f6f8fa; } .right { fill: #0072b2; } .wrong { fill: #d55e00; }
.over { fill: #ffffff; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .ground { fill: #0d1117; } .empty { fill: #161b22; }
.right { fill: #56b4e9; } .wrong { fill: #e69f00; } .over { fill: #0d1117; }
}
"""


def scores_picture(facet: FacetResult) -> str:
    """Reliability of the best label's score, and accuracy by the share of records answered."""
    name = printable(facet.facet, NAME_CHARACTERS)
    reliability = Panel(
        title=f"Reliability, ECE {facet.ece:.3f}",
        x_label="score of the best label (mean of a tenth of the records)",
        y_label="share that is right",
        lines=(
            Line("measured", tuple((one.mean_score, one.accuracy) for one in facet.reliability), dashed=False),
            Line("if scores meant what they say", ((0.0, 0.0), (1.0, 1.0)), dashed=True),
        ),
        log_y=False,
    )
    answered = facet.answered.value * 100
    coverage = Panel(
        title="Abstention",
        x_label="records answered, %",
        y_label="answers exactly right, %",
        lines=(
            *(
                Line(name, tuple((100 * one.coverage, 100 * one.accuracy) for one in reversed(points)), dashed=False)
                for name, points in (
                    ("by min_score", facet.coverage_by_score),
                    ("min_margin", facet.coverage_by_margin),
                )
            ),
            Line("as set now", ((answered, 0.0), (answered, 100.0)), dashed=True),
        ),
        log_y=False,
    )
    return chart(f"{name}: {facet.records:,} records", [reliability, coverage])


def confusion_picture(facet: FacetResult) -> str:
    """Rows: what is right; columns: what was given; a cell's depth is its share of the row's label.

    Of more than MOST_LABELS labels those with the most mistakes are drawn.
    """
    shown = _shown(facet)
    columns = [*shown, None]
    cells = {(cell.right, cell.given): cell.records for cell in facet.confusion}
    support = {label.label: label.support for label in facet.labels}
    widest = max(len(_name(label)) for label in columns) * LETTER
    left, top = MARGIN + 18 + widest + 6, HEAD + 22 + widest + 6
    width, height = left + CELL * len(columns) + MARGIN, top + CELL * len(shown) + MARGIN
    more = f" ({len(shown)} of {len(facet.labels)} labels)" if len(shown) < len(facet.labels) else ""
    title = f"{printable(facet.facet, NAME_CHARACTERS)}: what is right, and what was given{more}"
    width = max(width, 2 * MARGIN + HEAD_LETTER * len(title))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{width:.0f}" height="{height:.0f}"/>',
        f'<text class="head" x="{MARGIN}" y="27">{escape(title)}</text>',
        f'<text class="axis" x="{left:.1f}" y="{HEAD + 10}">given</text>',
        f'<text class="axis" transform="translate({MARGIN + 8},{top + CELL:.1f}) rotate(-90)" '
        'text-anchor="end">right</text>',
    ]
    for j, given in enumerate(columns):
        at = f"translate({left + CELL * (j + 0.5) + 4:.1f},{top - 6:.1f}) rotate(-90)"
        parts.append(f'<text transform="{at}">{escape(_name(given))}</text>')
    for i, right in enumerate(shown):
        y = top + CELL * i
        parts.append(f'<text x="{left - 6:.1f}" y="{y + 17:.1f}" text-anchor="end">{escape(_name(right))}</text>')
        for j, given in enumerate(columns):
            parts += _cell(left + CELL * j, y, (right, given), cells.get((right, given), 0), support[right])
    return "\n".join([*parts, "</svg>", ""])


def _shown(facet: FacetResult) -> list[str]:
    """Labels to draw, in their own order."""
    mistakes: dict[str | None, int] = defaultdict(int)
    for cell in facet.confusion:
        if cell.right != cell.given:
            mistakes[cell.right] += cell.records
            mistakes[cell.given] += cell.records
    names = [label.label for label in facet.labels]
    chosen = set(sorted(names, key=lambda name: -mistakes[name])[:MOST_LABELS])
    return [name for name in names if name in chosen]


def _cell(x: float, y: float, place: tuple[str, str | None], records: int, support: int) -> Iterator[str]:
    share = records / support if support else 0.0
    kind = "right" if place[0] == place[1] else "wrong"
    told = escape(f"{_name(place[0])} given {_name(place[1])}: {records:,} of {support:,}")
    box = f'x="{x:.1f}" y="{y:.1f}" width="{CELL - 1}" height="{CELL - 1}"'
    yield f'<rect class="empty" {box}/>'
    if records:
        yield f'<rect class="{kind}" fill-opacity="{0.08 + 0.92 * share:.3f}" {box}><title>{told}</title></rect>'
        style = ' class="over"' if share > 0.7 else ""
        number = f"{records}" if records < 1000 else f"{records / 1000:.0f}k"
        yield f'<text{style} x="{x + CELL / 2:.1f}" y="{y + 17:.1f}" text-anchor="middle">{number}</text>'


def _name(label: str | None) -> str:
    return NO_LABEL if label is None else printable(label, NAME_CHARACTERS)
