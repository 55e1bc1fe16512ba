"""The picture shows what was measured."""

from __future__ import annotations

import xml.etree.ElementTree as Xml

from streamer.bench.latency import Latency, LoadPoint, LoneRecord
from streamer.bench.picture import bench_picture
from streamer.bench.result import BenchResult
from streamer.bench.scaling import ScalePoint, Scaling
from streamer.engine.base import ModelInfo

SVG = "{http://www.w3.org/2000/svg}"


def load(share: float, p50_ms: float) -> LoadPoint:
    return LoadPoint(share, share * 200, 100, p50_ms, 2 * p50_ms, 3 * p50_ms, 4 * p50_ms, 2.0, 0.02, 1.0)


LATENCY = Latency(
    capacity_records_per_s=200.0,
    lone=LoneRecord(records=20, forward_ms=8.0, lone_record_ms=9.0, road_ms=30.0, max_wait_ms=20.0),
    loads=(load(0.1, 30.0), load(0.5, 60.0), load(0.9, 200.0)),
)
SCALING = Scaling(
    labels=(ScalePoint(4, 4000.0, 8000.0, 60.0, 0.0), ScalePoint(16, 5000.0, 9000.0, 72.0, 0.0)),
    text=(ScalePoint(16, 4000.0, 8000.0, 40.0, 0.0), ScalePoint(512, 40_000.0, 80_000.0, 535.0, 1.0)),
)


def result(latency: Latency | None, scaling: Scaling | None) -> BenchResult:
    return BenchResult(
        model=ModelInfo("a<b>&c", "0123", "cpu", "bfloat16", 511),
        threads=2,
        records=256,
        rounds=3,
        stages=None,
        matmul_share=None,
        latency=latency,
        scaling=scaling,
        comparison=None,
        no_comparison="not asked for",
    )


def drawn(found: BenchResult) -> tuple[list[str], int]:
    """Texts of the picture, and how many lines its panels have."""
    root = Xml.fromstring(bench_picture(found))  # noqa: S314 - our own text
    lines = [one for one in root.iter(f"{SVG}polyline") if len(one.attrib["points"].split()) > 1]
    return [one.text or "" for one in root.iter(f"{SVG}text")], len(lines)


def test_latency_and_scaling_make_three_panels() -> None:
    texts, lines = drawn(result(LATENCY, SCALING))
    assert "a<b>&c 0123, bfloat16 on cpu" in texts
    assert {"load, % of 200 records/s", "latency, ms", "labels", "words and signs of the text"} <= set(texts)
    assert texts.count("cost of a record, ms") == 2
    assert {"p50", "p95", "p99", "a lone record", "measured", "if it grew as the tokens"} <= set(texts)
    assert lines == 2 * (4 + 2 + 2), "each with its sign in the legend"


def test_one_section_alone_is_drawn_too() -> None:
    texts, lines = drawn(result(LATENCY, None))
    assert ("measured" in texts, lines) == (False, 8)
    texts, lines = drawn(result(None, SCALING))
    assert ("p50" in texts, lines) == (False, 8)
