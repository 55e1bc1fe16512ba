"""Metrics for Prometheus; this file and its `prometheus_...` neighbours alone know the client library.

Enters: facts from the loop, by the hooks of `observe.Observer`. Leaves: the text of a scrape. The registry is the
observer's own, never the library's global one. Labels of series come from settings alone (topics, facets, labels,
versions) and from stable codes, so their number is bounded. Must not know: Kafka clients, engines, settings.

One thread (the loop's) feeds it, a failed reload another one; any thread may render.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector

from streamer import __version__
from streamer.drift.report import StreamDrift
from streamer.engine.base import ModelInfo
from streamer.facets import LabelSet
from streamer.observe import Observer, Observers
from streamer.records import Stream
from streamer.telemetry.prometheus_delivery import DeliveryMetrics
from streamer.telemetry.prometheus_drift import DriftMetrics
from streamer.telemetry.prometheus_series import Definition, Registry, WithoutCreated
from streamer.telemetry.prometheus_shadow import ShadowMetrics
from streamer.telemetry.prometheus_work import WorkMetrics


class _ProcessMetrics(Observer):
    """What this process serves, since when, and how often that was read anew."""

    def __init__(self, registry: Registry, *, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        model = ("name", "revision", "device", "dtype")
        self._model = registry.gauge("model_info", "The model in memory; always 1.", model)
        self._label_set = registry.gauge("label_set_info", "Label sets served; always 1.", ("name", "version"))
        self._versions: set[tuple[str, str]] = set()
        registry.gauge("build_info", "The version of this package; always 1.", ("version",)).labels(__version__).set(1)
        self._up = registry.gauge("up", "1 from the loop's start to its end.", ())
        self._started_s = registry.gauge("started_timestamp_seconds", "When the loop started; 0 before.", ())
        self._reloads = registry.counter("reloads", "Changed label sets taken up.", ())[()]
        self._reload_failures = registry.counter("reload_failures", "Changed settings refused.", ())[()]
        self._reload_successful = registry.gauge(
            "last_reload_successful", "0 while the settings that lie there are refused, else 1.", ()
        )
        self._reloaded_s = registry.gauge(
            "last_reload_success_timestamp_seconds", "When label sets were last taken up, the start included.", ()
        )

    def loaded(self, model: ModelInfo) -> None:
        self._model.clear()
        self._model.labels(model.name, model.revision, model.device, model.dtype).set(1)

    def serving(self, label_sets: Collection[LabelSet]) -> None:
        versions = {(label_set.name, label_set.version) for label_set in label_sets}
        # the new ones first: a scrape in between shows two versions rather than none
        for version in versions:
            self._label_set.labels(*version).set(1)
        for version in self._versions - versions:
            self._label_set.remove(*version)
        self._versions = versions
        self._reload_successful.set(1)
        self._reloaded_s.set(self._wall_clock())

    def started(self) -> None:
        self._started_s.set(self._wall_clock())
        self._up.set(1)

    def reloaded(self, label_sets: Mapping[str, LabelSet]) -> None:
        self._reloads.inc()
        self.serving(label_sets.values())

    def reload_failed(self, reason: str) -> None:
        self._reload_failures.inc()
        self._reload_successful.set(0)

    def stopped(self) -> None:
        self._up.set(0)


class _DeviceMemory(Collector):
    """Memory of the model's device, asked for at every scrape; no series until `memory` can tell."""

    def __init__(self, registry: Registry) -> None:
        self.memory: Callable[[], Mapping[str, int]] = dict
        self._family = registry.gauge_family(
            "device_memory_bytes",
            "Memory of the device: used by tensors, reserved for them by this process, total.",
            ("state",),
        )
        registry.collectors.register(self)

    def collect(self) -> Iterator[Metric]:
        family = self._family()
        for state, held_bytes in self.memory().items():
            family.add_metric([state], held_bytes)
        yield family


class PrometheusObserver(Observers):
    """Counts what the loop tells; `streams` are all input topics, whose series start at 0.

    `wall_clock` gives Unix seconds, `longest_pauses` the loop's longest recent pauses in seconds by stage, `drift` the
    streams lately (None: not watched); `shadow` tells whether there is one.

    Padding wasted is `1 - rate(streamer_tokens_total) / rate(streamer_padded_tokens_total)`, the cache's hit rate
    `rate(streamer_cache_hits_total) / (rate(streamer_cache_hits_total) + rate(streamer_cache_misses_total))`.
    """

    content_type: str = CONTENT_TYPE_LATEST

    def __init__(
        self,
        *,
        streams: Sequence[Stream],
        wall_clock: Callable[[], float],
        longest_pauses: Callable[[], Mapping[str, float]],
        drift: Callable[[], Sequence[StreamDrift]] | None,
        shadow: bool,
    ) -> None:
        registry = Registry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry.collectors)
        self._work = WorkMetrics(registry, streams=streams)
        self._process = _ProcessMetrics(registry, wall_clock=wall_clock)
        self._device_memory = _DeviceMemory(registry)
        self._scraped = WithoutCreated(registry)
        if drift is not None:
            DriftMetrics(registry, drift)
        self._registry = registry
        super().__init__(
            self._work,
            DeliveryMetrics(registry, streams=streams, wall_clock=wall_clock, longest_pauses=longest_pauses),
            self._process,
            *([ShadowMetrics(registry)] if shadow else []),
        )

    def serving(self, model: ModelInfo, label_sets: Collection[LabelSet]) -> None:
        """Exactly this model and these label sets are served from now on; their label series start at 0."""
        self._process.loaded(model)
        self._process.serving(label_sets)
        self._work.serving(label_sets)

    def watch_device(self, memory: Callable[[], Mapping[str, int]]) -> None:
        """`memory` gives bytes of the model's device by state: used, reserved, total; called by whoever renders."""
        self._device_memory.memory = memory

    def definitions(self) -> Sequence[Definition]:
        """All metrics of this package that are exported, by name."""
        return sorted(self._registry.definitions, key=lambda one: one.name)

    def values(self, names: Collection[str]) -> dict[str, dict[tuple[str, ...], float]]:
        """The series of these names, as a scrape shows them: values of their labels -> value."""
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for metric in self._registry.collectors.restricted_registry(names).collect():
            for sample in metric.samples:
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return found

    def render(self) -> bytes:
        """The text of a scrape, to be sent as `content_type`."""
        return generate_latest(self._scraped)
