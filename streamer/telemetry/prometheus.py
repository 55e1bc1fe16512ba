"""Metrics for Prometheus; the only file that knows its client library.

Enters: facts from the loop, by the hooks of `observe.Observer`. Leaves: the text of a scrape. The registry is the
observer's own, never the library's global one. Labels of series come from settings alone (topics, facets, labels,
versions) and from stable codes, so their number is bounded. Must not know: Kafka clients, engines, settings.

One thread (the loop's) feeds it, any thread may render.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector

from streamer.engine.base import EngineFacts, ModelInfo
from streamer.facets import LabelSet
from streamer.observe import Observer
from streamer.records import Envelope, Partition, Reject, Stream, Verdict
from streamer.transport.base import Lag

# from one batch on an idle GPU to a backlog of hours
_LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_ENGINE_BUCKETS_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WINDOW_BUCKETS_DOCUMENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

M = TypeVar("M", Counter, Gauge, Histogram)


class _Children(dict[tuple[str, ...], M], Generic[M]):
    """A metric's children by label values: `labels()` of the library checks and locks at every call."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric: M = metric

    def __missing__(self, values: tuple[str, ...]) -> M:
        child = self[values] = self._metric.labels(*values)
        return child


class _ByPartition:
    """A gauge by topic and partition that shows exactly the partitions last given."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._shown: set[Partition] = set()

    def show(self, values: Mapping[Partition, float]) -> None:
        for partition, value in values.items():
            self._gauge.labels(*partition).set(value)
        self.drop(self._shown - values.keys())
        self._shown.update(values)

    def drop(self, partitions: Collection[Partition]) -> None:
        for partition in self._shown.intersection(partitions):
            self._gauge.remove(*partition)
        self._shown.difference_update(partitions)


class _WithoutCreated(Collector):
    """What a registry collects, less the `_created` time that the library adds to every single series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if sample.name != f"{metric.name}_created"]
            yield metric


class PrometheusObserver(Observer):
    """Counts what the loop tells; `streams` are all input topics, whose series start at 0.

    `wall_clock` gives Unix seconds. Padding wasted is `1 - rate(streamer_tokens_total) /
    rate(streamer_padded_tokens_total)`.
    """

    content_type: str = CONTENT_TYPE_LATEST

    def __init__(self, *, streams: Sequence[Stream], wall_clock: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._streams = tuple(streams)
        self._wall_clock = wall_clock
        self._define_records()
        self._define_engine()
        self._define_group()
        self._define_process()
        for stream in streams:
            topic = (stream.topic,)
            for by_topic in (self._consumed, self._published, self._dead_lettered, self._truncated):
                by_topic[topic].inc(0)
            _ = self._latency[topic]  # a histogram starts at 0 once its child exists
            self._paused.labels(*topic).set(0)

    def _define_records(self) -> None:
        topic = ("topic",)
        self._consumed = self._counter("records_consumed", "Records read from the input topic.", topic)
        self._published = self._counter("records_published", "Outputs acknowledged, by input topic.", topic)
        self._rejected = self._counter("records_rejected", "Records that cannot be labelled.", ("topic", "code"))
        self._dead_lettered = self._counter("records_dead_lettered", "Dead letters acknowledged.", topic)
        self._truncated = self._counter("records_truncated", "Records labelled by their beginning alone.", topic)
        self._labels = self._counter("labels", "Labels given.", ("topic", "facet", "label"))
        self._abstained = self._counter("abstentions", "Verdicts that gave no label for doubt.", ("topic", "facet"))
        self._latency: _Children[Histogram] = _Children(
            Histogram(
                "streamer_latency_seconds",
                "From the timestamp of the input to the acknowledgement of its output.",
                topic,
                buckets=_LATENCY_BUCKETS_S,
                registry=self._registry,
            )
        )

    def _define_engine(self) -> None:
        self._window = Histogram(
            "streamer_window_documents",
            "Documents handed to the engine together.",
            buckets=_WINDOW_BUCKETS_DOCUMENTS,
            registry=self._registry,
        )
        self._engine_s = Histogram(
            "streamer_engine_seconds",
            "From handing a window to the engine until it came back, waiting included.",
            buckets=_ENGINE_BUCKETS_S,
            registry=self._registry,
        )
        self._batches = self._counter("batches", "Device batches run.", ())[()]
        self._tokens = self._counter("tokens", "Tokens scored, padding left out.", ())[()]
        self._padded_tokens = self._counter("padded_tokens", "Tokens the device worked on, padding included.", ())[()]
        self._stage_s = self._counter("stage_seconds", "Seconds of work by stage.", ("stage",))
        self._stage_records = self._counter("stage_records", "Records worked on by stage.", ("stage",))

    def _define_group(self) -> None:
        by_partition = ("topic", "partition")
        self._lag_records = _ByPartition(
            self._gauge("lag_records", "Records not read yet, of partitions assigned.", by_partition)
        )
        self._lag_s = _ByPartition(self._gauge("lag_seconds", "Age of the oldest record not read yet.", by_partition))
        self._commits = self._counter("commits", "Commits of offsets.", ())[()]
        self._rebalances = self._counter("rebalances", "Partitions coming (assigned) and going.", ("event",))
        self._paused = self._gauge("topic_paused", "1 while the topic is paused for backpressure.", ("topic",))
        for event in ("assigned", "revoked", "lost"):
            self._rebalances[event,].inc(0)

    def _define_process(self) -> None:
        model = ("name", "revision", "device", "dtype")
        self._model = self._gauge("model_info", "The model in memory; always 1.", model)
        self._label_set = self._gauge("label_set_info", "Label sets served; always 1.", ("name", "version"))
        self._up = self._gauge("up", "1 from the loop's start to its end.", ())
        self._started_s = self._gauge("started_time_seconds", "When the loop started, in Unix seconds.", ())

    def _counter(self, name: str, about: str, labels: tuple[str, ...]) -> _Children[Counter]:
        counter = Counter(f"streamer_{name}", about, labels, registry=self._registry)
        children: _Children[Counter] = _Children(counter)
        if not labels:
            children[()] = counter
        return children

    def _gauge(self, name: str, about: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(f"streamer_{name}", about, labels, registry=self._registry)

    def serving(self, model: ModelInfo, label_sets: Collection[LabelSet]) -> None:
        """Exactly this model and these label sets are served from now on; their label series start at 0."""
        self._model.clear()
        self._model.labels(model.name, model.revision, model.device, model.dtype).set(1)
        self._label_set.clear()
        for label_set in label_sets:
            self._label_set.labels(label_set.name, label_set.version).set(1)
        by_name = {label_set.name: label_set for label_set in label_sets}
        for stream in self._streams:
            for facet in by_name[stream.label_set].facets:
                self._abstained[stream.topic, facet.name].inc(0)
                for label in facet.labels:
                    self._labels[stream.topic, facet.name, label.name].inc(0)

    def render(self) -> bytes:
        """The text of a scrape, to be sent as `content_type`."""
        return generate_latest(_WithoutCreated(self._registry))

    def started(self) -> None:
        self._started_s.set(self._wall_clock())
        self._up.set(1)

    def consumed(self, topic: str, records: int) -> None:
        self._consumed[topic,].inc(records)

    def rejected(self, envelope: Envelope[Reject]) -> None:
        self._rejected[envelope.position.topic, envelope.payload.code].inc()

    def submitted(self, documents: int) -> None:
        self._window.observe(documents)

    def scored(self, facts: EngineFacts, engine_s: float) -> None:
        self._engine_s.observe(engine_s)
        self._batches.inc(facts.batches)
        self._tokens.inc(facts.tokens)
        self._padded_tokens.inc(facts.padded_tokens)
        self.stage("tokenise", facts.tokenise_s, facts.documents)
        self.stage("forward", facts.forward_s, facts.documents)

    def labelled(self, envelopes: Sequence[Envelope[Verdict]]) -> None:
        # a window gives few distinct keys many times: count in plain dicts, touch each counter once
        labels: dict[tuple[str, ...], int] = {}
        abstained: dict[tuple[str, ...], int] = {}
        truncated: dict[tuple[str, ...], int] = {}
        for envelope in envelopes:
            topic, verdict = envelope.position.topic, envelope.payload
            for facet in verdict.facets:
                for label in facet.labels:
                    _add_one(labels, (topic, facet.name, label))
                if facet.abstained:
                    _add_one(abstained, (topic, facet.name))
            if verdict.truncated:
                _add_one(truncated, (topic,))
        counted = ((self._labels, labels), (self._abstained, abstained), (self._truncated, truncated))
        for children, counts in counted:
            for key, count in counts.items():
                children[key].inc(count)

    def published(self, topic: str, latency_s: float | None) -> None:
        self._published[topic,].inc()
        if latency_s is not None:
            # a producer's clock ahead of ours must not make the sum fall, which reads as a restart
            self._latency[topic,].observe(max(latency_s, 0.0))

    def dead_lettered(self, topic: str) -> None:
        self._dead_lettered[topic,].inc()

    def stage(self, name: str, seconds: float, records: int) -> None:
        self._stage_s[name,].inc(seconds)
        self._stage_records[name,].inc(records)

    def committed(self, partitions: int) -> None:
        self._commits.inc()

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
        for stream in self._streams:
            self._paused.labels(stream.topic).set(stream.topic in topics)

    def stopped(self) -> None:
        self._up.set(0)


def _add_one(counts: dict[Any, int], key: tuple[str, ...]) -> None:
    counts[key] = counts.get(key, 0) + 1
