"""Series of the Prometheus client library, made quick to feed and safe to take away.

Enters: names, label values, numbers. Leaves: series in a registry. Must not know: what is counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import inf
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from streamer.records import Partition

M = TypeVar("M", Counter, Gauge, Histogram)


class Children(dict[tuple[str, ...], M], Generic[M]):
    """A metric's children by label values: `labels()` of the library checks and locks at every call."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric: M = metric

    def __missing__(self, values: tuple[str, ...]) -> M:
        child = self[values] = self._metric.labels(*values)
        return child

    def keep(self, wanted: Collection[tuple[str, ...]]) -> None:
        """Take away the series of all other label values."""
        for values in self.keys() - set(wanted):
            del self[values]
            self._metric.remove(*values)


class ByPartition:
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


class ManyHistogram(Collector):
    """A histogram that takes many values at once, for what is observed of every record: the library's takes one at a
    time, with a lock for each. `buckets` are upper bounds, less the infinite one.

    A series is replaced whole, so that a scrape on another thread never sees half of what was taken.
    """

    def __init__(self, name: str, about: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> None:
        self._name, self._about, self._labels = name, about, labels
        self._bounds = buckets
        self._shown = [str(floatToGoString(bound)) for bound in (*buckets, inf)]  # type: ignore[no-untyped-call]
        self._series: dict[tuple[str, ...], tuple[list[int], float]] = {}

    def observe(self, labels: tuple[str, ...], values: Iterable[float]) -> None:
        """Count these values; a series is there from its first call, even with none."""
        counts, total = self._series.get(labels, ([0] * len(self._shown), 0.0))
        counts = counts.copy()
        for value in values:
            counts[bisect_left(self._bounds, value)] += 1
            total += value
        self._series[labels] = (counts, total)

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._about, labels=self._labels)
        for labels, (counts, total) in self._series.copy().items():
            buckets = list(zip(self._shown, accumulate(counts), strict=True))
            family.add_metric(labels, buckets, total)
        yield family


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric as it is exported: `kind` is counter, gauge or histogram, `labels` those of its series."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str


class Registry:
    """Makes the series of this package, all named `streamer_...`, in a registry of its own; knows what it made."""

    def __init__(self) -> None:
        self.collectors = CollectorRegistry()
        self.definitions: list[Definition] = []

    def _name(self, name: str, kind: str, about: str, labels: tuple[str, ...]) -> str:
        suffix = "_total" if kind == "counter" else ""
        self.definitions.append(Definition(f"streamer_{name}{suffix}", kind, labels, about))
        return f"streamer_{name}"

    def counter(self, name: str, about: str, labels: tuple[str, ...]) -> Children[Counter]:
        """Counters by label values; one without labels is the child of `()`."""
        counter = Counter(self._name(name, "counter", about, labels), about, labels, registry=self.collectors)
        children: Children[Counter] = Children(counter)
        if not labels:
            children[()] = counter
        return children

    def gauge(self, name: str, about: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(self._name(name, "gauge", about, labels), about, labels, registry=self.collectors)

    def gauge_family(self, name: str, about: str, labels: tuple[str, ...]) -> Callable[[], GaugeMetricFamily]:
        """Makes an empty gauge at every call, for a collector that is asked when scraped."""
        return partial(GaugeMetricFamily, self._name(name, "gauge", about, labels), about, labels=labels)

    def histogram(self, name: str, about: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        shown = self._name(name, "histogram", about, labels)
        return Histogram(shown, about, labels, buckets=buckets, registry=self.collectors)

    def many_histogram(
        self, name: str, about: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> ManyHistogram:
        histogram = ManyHistogram(self._name(name, "histogram", about, labels), about, labels, buckets)
        self.collectors.register(histogram)
        return histogram


class WithoutCreated(Collector):
    """What a registry collects, less the `_created` time that the library adds to every single series."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry.collectors

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if sample.name != f"{metric.name}_created"]
            yield metric
