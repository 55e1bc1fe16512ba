"""What `streamer bench` draws: latency by load, cost by labels, cost by text length.

Enters: a BenchResult with latency or scaling. Leaves: the text of an SVG. Must not know: how lines are drawn (see
`chart.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from streamer.bench.chart import Line, Panel, chart
from streamer.bench.latency import Latency
from streamer.bench.result import BenchResult
from streamer.bench.scaling import ScalePoint


def bench_picture(result: BenchResult) -> str:
    """A panel for each of them that was measured."""
    panels = []
    if result.latency is not None:
        panels.append(_latency(result.latency))
    if result.scaling is not None:
        panels.append(_cost("Cost by number of labels", "labels", result.scaling.labels))
        panels.append(
            _cost("Cost by length of the text, 24 labels", "words and signs of the text", result.scaling.text)
        )
    info = result.model
    return chart(f"{info.name} {info.revision}, {info.dtype} on {info.device}", panels)


def _latency(found: Latency) -> Panel:
    loads = [one.load * 100 for one in found.loads]
    percentiles = {
        "p50": [one.p50_ms for one in found.loads],
        "p95": [one.p95_ms for one in found.loads],
        "p99": [one.p99_ms for one in found.loads],
    }
    lines = [Line(name, tuple(zip(loads, values, strict=True)), dashed=False) for name, values in percentiles.items()]
    lone_ms = found.lone.road_ms
    lines.append(Line("a lone record", ((0.0, lone_ms), (100.0, lone_ms)), dashed=True))
    return Panel(
        title="Latency by load, from when a record was due",
        x_label=f"load, % of {found.capacity_records_per_s:,.0f} records/s",
        y_label="latency, ms",
        lines=tuple(lines),
        log_y=True,
    )


def _cost(title: str, what: str, points: Sequence[ScalePoint]) -> Panel:
    first = points[0]
    measured = tuple((float(one.size), one.us_per_record / 1000) for one in points)
    as_tokens = tuple(
        (float(one.size), first.us_per_record / 1000 * one.tokens_per_record / first.tokens_per_record)
        for one in points
    )
    return Panel(
        title=title,
        x_label=what,
        y_label="cost of a record, ms",
        lines=(Line("measured", measured, dashed=False), Line("if it grew as the tokens", as_tokens, dashed=True)),
        log_y=False,
    )
