"""`streamer drift baseline` and `streamer drift show` as a whole.

Enters: what the command line says. Leaves: a baseline file and a line for each of its streams, or a table. Must not
know: how records are labelled or counted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.app import build_classifier, connect, with_cache
from streamer.drift.baseline import baseline_json, read_baseline
from streamer.drift.collect import Collected, count_values, fetch_counts, topic_values
from streamer.drift.report import AspectDrift, StreamCounts, drift_report
from streamer.errors import UsageError
from streamer.records import Stream
from streamer.settings import EMBEDDED, Settings, load_settings
from streamer.settings_errors import near
from streamer.tables import read_values, require_readable

SHOWN_CHANGES = 3


@dataclass(frozen=True, slots=True)
class BaselineWish:
    """What the command line asks for; see `command.baseline`."""

    config: Path
    out: Path
    url: str | None
    source: Path | None
    since: str | None
    until: str
    topics: Sequence[str]
    limit: int
    overwrite: bool


def run_baseline(wish: BaselineWish, *, console: Console) -> None:
    """Write the baseline. Raises UsageError, before a model is loaded where that can be told."""
    if sum(given is not None for given in (wish.url, wish.source, wish.since)) != 1:
        raise UsageError("say where the records are: one of --url, --input and --since")
    settings = load_settings(wish.config)
    streams = _chosen(settings, wish.topics)
    held = _held(wish, streams)
    made: dict[str, StreamCounts] = {}
    rejects: dict[str, int] = {}
    if wish.url is not None:
        counted = fetch_counts(wish.url)
        made = {stream.topic: counted[stream.topic] for stream in streams if stream.topic in counted}
    else:
        for stream, one in _labelled(wish, settings, streams):
            rejects[stream.topic] = one.rejects
            if one.counts.records:
                made[stream.topic] = one.counts
    if not made:
        raise UsageError(f"nothing was counted of {', '.join(stream.topic for stream in streams)}; no file is written")
    partial = wish.out.with_name(f".{wish.out.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(baseline_json({**held, **made}))
        partial.replace(wish.out)
    except OSError as error:
        raise UsageError(f"{wish.out}: cannot be written ({error.strerror})") from None
    for topic, counts in made.items():
        refused = f", {rejects[topic]:,} could not be labelled" if rejects.get(topic) else ""
        by = f"label set '{counts.label_set}', version {counts.version}"
        console.print(Text(f"{wish.out}: '{topic}', {counts.records:,.0f} records{refused}; {by}"))


def _chosen(settings: Settings, topics: Sequence[str]) -> list[Stream]:
    streams = {stream.topic: stream for stream in settings.build_streams()}
    for topic in topics:
        if topic not in streams:
            raise UsageError(f"--topic '{topic}' is no input topic of the settings{near(topic, streams)}")
    return [streams[topic] for topic in topics or streams]


def _held(wish: BaselineWish, streams: Sequence[Stream]) -> dict[str, StreamCounts]:
    """What the file holds already. Raises UsageError where that would be lost, or a record's topic is in doubt."""
    if wish.source is not None and len(streams) > 1:
        known = ", ".join(stream.topic for stream in streams)
        raise UsageError(f"the settings have several streams ({known}); say with --topic whose records --input holds")
    if not wish.out.parent.is_dir():
        raise UsageError(f"{wish.out}: no such folder as {wish.out.parent}; make it first")
    if not wish.out.exists():
        return {}
    held = read_baseline(wish.out)
    again = [stream.topic for stream in streams if stream.topic in held]
    if again and not wish.overwrite:
        raise UsageError(f"{wish.out}: holds '{again[0]}' already; name another file, or give --overwrite")
    return held


def _labelled(wish: BaselineWish, settings: Settings, streams: Sequence[Stream]) -> Iterator[tuple[Stream, Collected]]:
    if wish.source is not None:
        require_readable(wish.source)
    elif settings.kafka.bootstrap_servers == EMBEDDED:
        raise UsageError("--since reads a Kafka cluster; the embedded broker of these settings starts empty")
    label_sets = settings.build_label_sets()
    model = build_classifier(settings.model, max_tokens=settings.batching.max_tokens)
    classifier = with_cache(model, settings.model)
    try:
        classifier.warm_up([label_sets[stream.label_set] for stream in streams])
        for stream in streams:
            counted = count_values(
                islice(_values(wish, settings, stream), wish.limit),
                stream=stream,
                label_set=label_sets[stream.label_set],
                classifier=classifier,
            )
            yield stream, counted
    finally:
        classifier.close()


def _values(wish: BaselineWish, settings: Settings, stream: Stream) -> Iterator[bytes | None]:
    if wish.source is not None:
        yield from read_values(wish.source)
        return
    now_ms = time.time_ns() // 1_000_000
    with connect(settings) as connection:
        yield from topic_values(connection, stream.topic, since=wish.since or "", until=wish.until, now_ms=now_ms)


def run_show(config: Path, *, url: str, console: Console) -> None:
    """Print the drift of a running process. Raises UsageError where there is no baseline, or no answer."""
    drift = load_settings(config).drift
    if drift is None or drift.baseline is None:
        raise UsageError(f"{config}: names no drift.baseline; make one with `streamer drift baseline`")
    baseline = read_baseline(drift.baseline)
    table = Table()
    for column in ("stream", "of", "distance", "what changed most (baseline → lately)"):
        table.add_column(column, justify="right" if column == "distance" else "left", overflow="fold")
    for stream in drift_report(fetch_counts(url), baseline):
        for one in sorted(stream.aspects, key=lambda aspect: -(aspect.distance or 0.0)):
            shown = "" if one.distance is None else f"{one.distance:.3f}"
            of = f"{one.aspect} of {one.facet}" if one.facet else one.aspect
            table.add_row(Text(stream.topic), Text(of), shown, Text(_changes(one)))
    console.print(table)


def _changes(one: AspectDrift) -> str:
    """The values whose shares moved most."""
    before = one.baseline or {}
    moved = {value: one.shares.get(value, 0.0) - before.get(value, 0.0) for value in one.shares.keys() | before.keys()}
    ranked = sorted(moved, key=lambda value: (-abs(moved[value]), value))[:SHOWN_CHANGES]
    return ", ".join(f"{value} {before.get(value, 0.0):.0%} → {one.shares.get(value, 0.0):.0%}" for value in ranked)
