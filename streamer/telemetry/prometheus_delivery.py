"""Metrics of delivery: the consumer group, commits, rewinds, and how long the loop stood still.

Enters: hooks of `observe.Observer`, and the loop's pauses when scraped. Leaves: series in a Registry. Must not know:
who scrapes, labels, engines.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from prometheus_client import Metric
from prometheus_client.registry import Collector

from streamer.observe import Observer
from streamer.records import Partition, Stream
from streamer.telemetry.prometheus_series import ByPartition, Registry
from streamer.transport.base import Lag

# a commit takes milliseconds; a transaction's, as long as its deadline
_COMMIT_BUCKETS_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class _Pauses(Collector):
    """The longest pauses of the loop, asked for at every scrape: one that lasts must be seen while it does."""

    def __init__(self, registry: Registry, longest_pauses: Callable[[], Mapping[str, float]]) -> None:
        self._longest_pauses = longest_pauses
        self._family = registry.gauge_family(
            "loop_longest_pause_seconds",
            "Longest time between two heartbeats of the loop in the last minute or two, by what it was about to do.",
            ("stage",),
        )
        registry.collectors.register(self)

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        for stage, seconds in sorted(self._longest_pauses().items()):
            family.add_metric([stage], seconds)
        yield family


class DeliveryMetrics(Observer):
    """Counts what becomes of offsets; `wall_clock` gives Unix seconds, `longest_pauses` seconds by stage."""

    def __init__(
        self,
        registry: Registry,
        *,
        streams: Sequence[Stream],
        wall_clock: Callable[[], float],
        longest_pauses: Callable[[], Mapping[str, float]],
    ) -> None:
        self._wall_clock = wall_clock
        self._topics = [stream.topic for stream in streams]
        by_partition = ("topic", "partition")
        self._lag_records = ByPartition(
            registry.gauge("lag_records", "Records not read yet, of partitions assigned.", by_partition)
        )
        self._lag_s = ByPartition(registry.gauge("lag_seconds", "Age of the oldest record not read yet.", by_partition))
        self._commits = registry.counter("commits", "Commits of offsets; exactly once: of transactions.", ())[()]
        self._committed_s = registry.gauge(
            "last_commit_timestamp_seconds", "When offsets were last committed; before the first, the start.", ()
        )
        self._commit_s = registry.histogram(
            "commit_seconds", "From the start of a commit to its answer.", (), _COMMIT_BUCKETS_S
        )
        self._commit_failures = registry.counter("commit_failures", "Commits that came to nothing.", ())[()]
        self._rewinds = registry.counter("rewinds", "Times that work was dropped and read again.", ())[()]
        self._rebalances = registry.counter("rebalances", "Partitions coming (assigned) and going.", ("event",))
        self._paused = registry.gauge("topic_paused", "1 while the topic is paused for backpressure.", ("topic",))
        _Pauses(registry, longest_pauses)
        for event in ("assigned", "revoked", "lost"):
            self._rebalances[event,].inc(0)
        for topic in self._topics:
            self._paused.labels(topic).set(0)

    def started(self) -> None:
        self._committed_s.set(self._wall_clock())

    def committed(self, partitions: int, seconds: float) -> None:
        self._commits.inc()
        self._committed_s.set(self._wall_clock())
        self._commit_s.observe(seconds)

    def commit_failed(self) -> None:
        self._commit_failures.inc()

    def rewound(self, reason: str) -> None:
        self._rewinds.inc()

    def assigned(self, partitions: Collection[Partition]) -> None:
        self._rebalances["assigned",].inc()

    def revoked(self, partitions: Collection[Partition], lost: bool) -> None:
        self._rebalances["lost" if lost else "revoked",].inc()
        self._lag_records.drop(partitions)
        self._lag_s.drop(partitions)

    def lag(self, lags: Mapping[Partition, Lag]) -> None:
        self._lag_records.show({partition: lag.records for partition, lag in lags.items()})
        self._lag_s.show({partition: lag.seconds for partition, lag in lags.items() if lag.seconds is not None})

    def paused(self, topics: Collection[str]) -> None:
        for topic in self._topics:
            self._paused.labels(topic).set(topic in topics)
