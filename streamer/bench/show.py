"""`streamer bench` on a terminal.

Enters: a BenchResult. Leaves: tables of what was measured. Must not know: how anything is measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.bench.compare import Comparison
from streamer.bench.latency import Latency
from streamer.bench.result import BenchResult
from streamer.bench.scaling import ScalePoint, Scaling
from streamer.bench.stages import StageTimes

BAR_WIDTH = 24


def show_bench(console: Console, result: BenchResult) -> None:
    """The model, then a table for each section that was measured."""
    info = result.model
    head = f"{info.name} {info.revision}, {info.dtype} on {info.device}, torch threads: {result.threads}"
    console.print(Text(head), highlight=False)
    if result.stages is not None:
        _show_stages(console, result.stages, result.matmul_share)
        console.print(f"medians of {result.rounds} rounds, {result.records:,} records each")
    if result.latency is not None:
        _show_latency(console, result.latency)
    if result.scaling is not None:
        _show_scaling(console, result.scaling)
    if result.comparison is None:
        console.print(f"no comparison with gliclass: {result.no_comparison}", markup=False)
    else:
        _show_comparison(console, result.comparison)


def _show_stages(console: Console, stages: StageTimes, matmul_share: float | None) -> None:
    table = Table()
    table.add_column("stage")
    table.add_column("us a record", justify="right")
    table.add_column("", width=BAR_WIDTH)
    total = sum(stages.us_per_record.values())
    for name, us in stages.us_per_record.items():
        table.add_row(name, f"{us:,.1f}", Bar(total, 0.0, us, width=BAR_WIDTH, color="cyan"))
    console.print(table)
    console.print(f"engine alone, text to scores: {stages.engine_records_per_s:,.0f} records/s")
    share = "" if matmul_share is None else f", {matmul_share:.0%} of what large matrix products reach here"
    console.print(f"forward: {stages.forward_tokens_per_s:,.0f} tokens/s, {stages.padding:.1%} padding{share}")


def _show_latency(console: Console, found: Latency) -> None:
    rate = f"{found.capacity_records_per_s:,.0f} records/s"
    console.print(f"from when a record was due to its event; the road labels a backlog at {rate}:")
    table = _table("load", "records/s", "p50, ms", "p95", "p99", "longest", "records in a window")
    for one in found.loads:
        times = (_digits(ms) for ms in (one.p50_ms, one.p95_ms, one.p99_ms, one.max_ms))
        filled = f"{one.records_per_window:,.1f} ({one.window_fill:.0%} full)"
        table.add_row(f"{one.load:.0%}", _digits(one.offered_records_per_s), *times, filled)
    console.print(table)
    lone = found.lone
    console.print(
        f"a lone record: {lone.lone_record_ms:,.2f} ms from text to scores, {lone.overhead:.0%} more than the "
        f"forward pass ({lone.forward_ms:,.2f} ms); {lone.road_ms:,.2f} ms on the road, where a window waits for "
        f"company for up to {lone.max_wait_ms:g} ms"
    )


def _show_scaling(console: Console, found: Scaling) -> None:
    console.print("cost of a record, text to scores, as labels or its text grow:")
    _show_points(console, "labels", found.labels)
    _show_points(console, "words and signs", found.text)
    growth = found.growth
    console.print(
        f"from {growth.from_labels} to {growth.to_labels} labels: {growth.cost:.2f} times the time, {growth.cpu:.2f} "
        f"times the CPU time, {growth.tokens:.2f} times the tokens"
    )


def _show_points(console: Console, what: str, points: Sequence[ScalePoint]) -> None:
    table = _table(what, "us a record", "CPU, us", "tokens", "us a token", "cut")
    for one in points:
        costs = (one.us_per_record, one.cpu_us_per_record, one.tokens_per_record)
        per_token = one.us_per_record / one.tokens_per_record
        cut = f"{one.cut:.0%}" if one.cut else ""
        table.add_row(f"{one.size:,}", *map(_digits, (*costs, per_token)), cut)
    console.print(table)


def _show_comparison(console: Console, compared: Comparison) -> None:
    console.print("against gliclass on one checkpoint, text to labels, 3 facets in rows of their own:")
    table = Table()
    for name in ("", "records/s", "ratio", "same", "same but for rounding", "most apart"):
        table.add_column(name, justify="right" if name else "left")
    theirs = f"gliclass {compared.gliclass_version}, float32"
    table.add_row(theirs, f"{compared.gliclass_records_per_s:,.1f}", "1.00", "", "", "")
    ours = (
        (compared.dtype, compared.streamer_records_per_s, compared.ratio, compared.agreement),
        ("float32", compared.streamer_float32_records_per_s, compared.ratio_float32, compared.agreement_float32),
    )
    for dtype, speed, ratio, agreed in dict.fromkeys(ours):
        figures = (f"{speed:,.1f}", f"{ratio:.2f}", f"{agreed.same:.1%}", f"{agreed.within_noise:.1%}")
        table.add_row(f"streamer, {dtype}", *figures, f"{agreed.most_apart:.1g}")
    if compared.own_model_records_per_s is not None:
        own = (f"{compared.own_model_records_per_s:,.1f}", f"{compared.ratio_own_model:.2f}")
        table.add_row(f"the model above, same encoder shape, {compared.dtype}", *own, "", "", "")
    console.print(table)


def _digits(value: float) -> str:
    """Three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(*columns: str) -> Table:
    table = Table()
    for name in columns:
        table.add_column(name, justify="right")
    return table
