"""Series of the Prometheus client library, made quick to feed and safe to take away.

Enters: names, label values, numbers. Leaves: series in a registry. Must not know: what is counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

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


class Registry:
    """Makes the series of this package, all named `streamer_...`, in a registry of its own."""

    def __init__(self) -> None:
        self.collectors = CollectorRegistry()

    def counter(self, name: str, about: str, labels: tuple[str, ...]) -> Children[Counter]:
        """Counters by label values; one without labels is the child of `()`."""
        counter = Counter(f"streamer_{name}", about, labels, registry=self.collectors)
        children: Children[Counter] = Children(counter)
        if not labels:
            children[()] = counter
        return children

    def gauge(self, name: str, about: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(f"streamer_{name}", about, labels, registry=self.collectors)

    def histogram(self, name: str, about: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"streamer_{name}", about, labels, buckets=buckets, registry=self.collectors)


class WithoutCreated(Collector):
    """What a registry collects, less the `_created` time that the library adds to every single series."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry.collectors

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if sample.name != f"{metric.name}_created"]
            yield metric
