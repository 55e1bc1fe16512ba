"""Metrics of the work itself: records by topic, labels given, windows and device batches.

Enters: hooks of `observe.Observer`. Leaves: series in a Registry. Must not know: who scrapes, consumer groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

from streamer.engine.base import EngineFacts
from streamer.facets import LabelSet
from streamer.observe import Observer
from streamer.records import Decided, Document, Envelope, Reject, Stream
from streamer.telemetry.prometheus_series import Registry

# from one batch on an idle GPU to a backlog of hours
_LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_ENGINE_BUCKETS_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WINDOW_BUCKETS_DOCUMENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class WorkMetrics(Observer):
    """Counts records and what the engine did with them; the series of `streams` start at 0."""

    def __init__(self, registry: Registry, *, streams: Sequence[Stream]) -> None:
        self._streams = tuple(streams)
        self._output_of = {stream.topic: stream.output for stream in streams}
        self._labels_served: set[tuple[str, ...]] = set()
        self._facets_served: set[tuple[str, ...]] = set()
        self._routes_served: set[tuple[str, ...]] = set()
        self._define_records(registry)
        self._define_engine(registry)
        for stream in streams:
            topic = (stream.topic,)
            for by_topic in (
                self._consumed, self._labelled, self._published, self._dead_lettered, self._truncated
            ):  # fmt: skip
                by_topic[topic].inc(0)
            self._latency.observe(topic, ())

    def _define_records(self, registry: Registry) -> None:
        topic = ("topic",)
        self._consumed = registry.counter("records_consumed", "Records read from the input topic.", topic)
        self._labelled = registry.counter("records_labelled", "Records that labels were decided for.", topic)
        self._routed = registry.counter(
            "records_routed", "Records by the output topics that they are sent to.", ("topic", "to")
        )
        self._published = registry.counter("records_published", "Outputs acknowledged, by input topic.", topic)
        self._rejected = registry.counter(
            "records_rejected", "Records that cannot be labelled, by the code of the reason.", ("topic", "code")
        )
        self._dead_lettered = registry.counter("records_dead_lettered", "Dead letters acknowledged.", topic)
        self._truncated = registry.counter("records_truncated", "Records labelled by their beginning alone.", topic)
        self._labels = registry.counter("labels", "Labels given.", ("topic", "facet", "label"))
        self._abstained = registry.counter("abstentions", "Verdicts that gave no label for doubt.", ("topic", "facet"))
        self._latency = registry.many_histogram(
            "latency_seconds",
            "From the timestamp of the input to the acknowledgement of its output.",
            topic,
            _LATENCY_BUCKETS_S,
        )

    def _define_engine(self, registry: Registry) -> None:
        self._window = registry.histogram(
            "window_documents", "Documents handed to the engine together.", (), _WINDOW_BUCKETS_DOCUMENTS
        )
        self._engine_s = registry.histogram(
            "engine_seconds",
            "From handing a window to the engine until it came back, waiting included.",
            (),
            _ENGINE_BUCKETS_S,
        )
        self._batches = registry.counter("batches", "Device batches run.", ())[()]
        self._capacity_tokens = registry.counter(
            "batch_capacity_tokens", "Tokens that the device batches run could have held.", ()
        )[()]
        self._out_of_memory = registry.counter(
            "engine_out_of_memory",
            "Device batches that did not fit into memory: split, or given up where they were one record.",
            (),
        )[()]
        self._tokens = registry.counter("tokens", "Tokens scored, padding left out.", ())[()]
        self._padded_tokens = registry.counter(
            "padded_tokens", "Tokens the device worked on, padding included.", ()
        )[()]  # fmt: skip
        self._cache_hits = registry.counter("cache_hits", "Documents answered from the score cache.", ())[()]
        self._cache_misses = registry.counter("cache_misses", "Documents that the score cache did not know.", ())[()]
        self._cache_bytes = registry.gauge("cache_bytes", "Memory that the score cache holds.", ())
        self._stage_s = registry.counter("stage_seconds", "Seconds of work by stage of the road.", ("stage",))
        self._stage_records = registry.counter("stage_records", "Records worked on by stage of the road.", ("stage",))

    def serving(self, label_sets: Collection[LabelSet]) -> None:
        """The series of these label sets start at 0; those of label sets replaced earlier than the last ones end.

        What was replaced last stays: records under way may still be counted by it.
        """
        by_name = {label_set.name: label_set for label_set in label_sets}
        facets: set[tuple[str, ...]] = set()
        labels: set[tuple[str, ...]] = set()
        routes: set[tuple[str, ...]] = set()
        for stream in self._streams:
            label_set = by_name[stream.label_set]
            routes.update((stream.topic, to) for to in (stream.output, *(route.to for route in label_set.routes)))
            for facet in label_set.facets:
                facets.add((stream.topic, facet.name))
                labels.update((stream.topic, facet.name, label.name) for label in facet.labels)
        self._abstained.keep(facets | self._facets_served)
        self._labels.keep(labels | self._labels_served)
        self._routed.keep(routes | self._routes_served)
        for children, served in ((self._abstained, facets), (self._labels, labels), (self._routed, routes)):
            for values in served:
                children[values].inc(0)
        self._facets_served, self._labels_served, self._routes_served = facets, labels, routes

    def reloaded(self, label_sets: Mapping[str, LabelSet]) -> None:
        self.serving(label_sets.values())

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
        self._capacity_tokens.inc(facts.capacity_tokens)
        self._out_of_memory.inc(facts.out_of_memory)
        self.stage("tokenise", facts.tokenise_s, facts.scored)
        self.stage("forward", facts.forward_s, facts.scored)
        if facts.cache is not None:
            self._cache_hits.inc(facts.cache.hits)
            self._cache_misses.inc(facts.cache.misses)
            self._cache_bytes.set(facts.cache.held_bytes)

    def labelled(self, envelopes: Sequence[Envelope[Document]], decided: Decided) -> None:
        topic = envelopes[0].position.topic
        for column in decided.facets:
            facet = column.facet.name
            for label, count in Counter(chain.from_iterable(column.labels)).items():
                self._labels[topic, facet, label].inc(count)
            # not for none of them: that would bring back the series of a facet that a reload has ended
            if doubtful := sum(column.abstained):
                self._abstained[topic, facet].inc(doubtful)
        for routes, count in Counter(decided.routes).items():
            for to in routes or (self._output_of[topic],):
                self._routed[topic, to].inc(count)
        self._labelled[topic,].inc(len(envelopes))
        self._truncated[topic,].inc(sum(decided.truncated))

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self._published[topic,].inc(len(latencies_s))
        # a producer's clock ahead of ours must not make the sum fall, which reads as a restart
        self._latency.observe((topic,), [max(seconds, 0.0) for seconds in latencies_s if seconds is not None])

    def dead_lettered(self, topic: str, records: int) -> None:
        self._dead_lettered[topic,].inc(records)

    def stage(self, name: str, seconds: float, records: int) -> None:
        self._stage_s[name,].inc(seconds)
        self._stage_records[name,].inc(records)
