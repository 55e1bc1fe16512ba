"""A replay on the road of production: read, label, send to the side topic, commit; then compare with what was there.

Enters: a Plan and the ranges that are left. Leaves: events in the side topic, and a Report of what changed.
Must not know: the command line, who may write where.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, TypeAlias

from streamer.app import REACH_TIMEOUT_S, Connection, build_classifier, build_pipeline, with_cache
from streamer.delivery import AtLeastOnce
from streamer.observe import Observer
from streamer.records import Envelope, Outbound, Reject
from streamer.replay.compare import Comparison, Side
from streamer.replay.plan import Plan
from streamer.replay.report import Report
from streamer.settings import Settings
from streamer.transport.base import OnDelivered, Sink, Source

if TYPE_CHECKING:
    from streamer.transport.kafka_admin import TopicFacts
    from streamer.transport.kafka_range import Bound, Range, RangeReader
    from streamer.transport.replay_group import Progress, ReplayGroup

PATIENCE_S = 60.0
EVENT_MEMORY_MB = 32  # for events fetched ahead while two sides are compared
EVENTS_AT_ONCE = 1000
READ_S = 0.2
# an event is stamped with its input's time or later, but not all clocks agree
CLOCKS_DIFFER_MS = 3_600_000

Advance: TypeAlias = Callable[[int], object]


@dataclass(slots=True)
class Outcome:
    """What one start of a replay did, in records. `left`: offsets that the next one has to read. `wall_s`: without the
    loading of the model."""

    read: int = 0
    labelled: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    left: int = 0
    wall_s: float = 0.0


def replay(
    settings: Settings,
    plan: Plan,
    *,
    connection: Connection,
    topics: Mapping[str, TopicFacts],
    group: ReplayGroup,
    progress: Sequence[Progress],
    rate: float | None,
    stop: Event,
    advance: Advance,
) -> Outcome:
    """Label what is left of the ranges, until all is committed or `stop` is set; `stop` is set in the end.

    `advance` is told of offsets that are settled. Raises what stops the road.
    """
    from streamer.transport.replay_source import RateLimit, ReplaySource

    outcome = Outcome(left=sum(one.left for one in progress))

    def settled(offsets: int) -> None:
        outcome.left -= offsets
        advance(offsets)

    model = build_classifier(settings.model, max_tokens=settings.batching.max_tokens)
    classifier = with_cache(model, settings.model)
    try:
        classifier.warm_up([plan.label_set])
        source = ReplaySource(
            group=group,
            progress=progress,
            open_reader=lambda ranges: _open_ranges(connection, ranges, settings.kafka.fetch_memory_mb),
            rate=RateLimit(rate=rate, clock=time.monotonic),
            on_end=stop.set,
            on_settled=settled,
        )
        observer = _Tally(outcome)
        pipeline = build_pipeline(
            settings,
            source=source,
            delivery=_delivery(settings, plan, connection, topics, source, observer),
            streams=[plan.stream],
            classifier=classifier,
            label_sets={plan.label_set.name: plan.label_set},
            observer=observer,
        )
        began_s = time.monotonic()
        pipeline.run(stop)
        outcome.wall_s = time.monotonic() - began_s
    finally:
        classifier.close()
    return outcome


def _delivery(
    settings: Settings,
    plan: Plan,
    connection: Connection,
    topics: Mapping[str, TopicFacts],
    source: Source,
    observer: Observer,
) -> AtLeastOnce:
    """At least once, whatever the settings promise for production: an interrupted replay repeats a few events."""
    from streamer.transport.kafka_sink import KafkaSink

    sink = KafkaSink(
        bootstrap_servers=connection.bootstrap_servers,
        properties=connection.properties,
        buffer_memory_mb=settings.kafka.send_memory_mb,
        topics={topic: topics[topic] for topic in (plan.stream.output, plan.stream.dead_letter)},
    )
    return AtLeastOnce(
        source=source,
        sink=SideSink(sink, to=plan.stream.output, dead_letter=plan.dead_letter),
        observer=observer,
        commit_interval_s=settings.limits.commit_interval_ms / 1000,
        clock=time.monotonic,
        sleep=time.sleep,
    )


class SideSink:
    """A Sink in front of another one: every event goes to the side topic, wherever its `route` says that it would go,
    and dead letters to a topic of their own or, without one, nowhere."""

    def __init__(self, sink: Sink, *, to: str, dead_letter: str | None) -> None:
        self._sink = sink
        self._to = to
        self._dead_letter = dead_letter
        self._dropped: list[OnDelivered] = []

    @property
    def full(self) -> bool:
        """See `Sink.full`."""
        return self._sink.full

    def send(self, message: Outbound, on_delivered: OnDelivered) -> None:
        """See `Sink.send`."""
        topic = self._dead_letter if message.dead_letter else self._to
        if topic is None:
            self._dropped.append(on_delivered)
        else:
            self._sink.send(message._replace(topic=topic), on_delivered)

    def flush(self, timeout_s: float) -> int:
        """See `Sink.flush`."""
        dropped, self._dropped = self._dropped, []
        for on_delivered in dropped:
            on_delivered(None)
        return self._sink.flush(timeout_s)

    def close(self) -> None:
        """See `Sink.close`."""
        self._sink.close()


class _Tally(Observer):
    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def consumed(self, topic: str, records: int) -> None:
        self._outcome.read += records

    def rejected(self, envelope: Envelope[Reject]) -> None:
        self._outcome.rejected[envelope.payload.code] += 1

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self._outcome.labelled += len(latencies_s)


def compare(
    plan: Plan,
    *,
    connection: Connection,
    ranges: Sequence[Range],
    old_topics: Sequence[str],
    stop: Event,
    advance: Advance,
) -> Report | None:
    """The events of the ranges in the side topic, against those in `old_topics`; None when `stop` was set meanwhile.

    `advance` is told of events that were read. Raises TransientError when the broker goes away.
    """
    from streamer.transport.kafka_range import AtTime, Edge

    def collect(side: Side, topic: str, since: Bound) -> None:
        reader = _open_topic(connection, topic, since)
        try:
            while not (reader.done or stop.is_set()):
                events = reader.poll(EVENTS_AT_ONCE, READ_S)
                comparison.add(side, [event.value for event in events])
                advance(len(events))
        finally:
            reader.close()

    offsets = {one.at.partition: range(one.begin, one.end) for one in ranges}
    with Comparison(topic=plan.stream.topic, ranges=offsets) as comparison:
        collect("new", plan.stream.output, Edge.BEGINNING)
        earliest_ms = comparison.earliest_ms
        since = Edge.BEGINNING if earliest_ms is None else AtTime(max(0, earliest_ms - CLOCKS_DIFFER_MS))
        for topic in old_topics:
            collect("old", topic, since)
        return None if stop.is_set() else comparison.report()


def _open_topic(connection: Connection, topic: str, since: Bound) -> RangeReader:
    from streamer.transport.kafka_range import Edge, find_ranges

    servers, properties = connection.bootstrap_servers, connection.properties
    ranges = find_ranges(servers, properties, topic, since=since, until=Edge.END, timeout_s=REACH_TIMEOUT_S)
    return _open_ranges(connection, ranges, EVENT_MEMORY_MB)


def _open_ranges(connection: Connection, ranges: Sequence[Range], fetch_memory_mb: int) -> RangeReader:
    from streamer.transport.kafka_range import RangeReader

    return RangeReader(
        bootstrap_servers=connection.bootstrap_servers,
        properties=connection.properties,
        ranges=ranges,
        fetch_memory_mb=fetch_memory_mb,
        patience_s=PATIENCE_S,
    )
