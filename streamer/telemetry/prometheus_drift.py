"""Metrics of drift: shares lately and in the baseline, and how far they are apart.

Enters: what was counted, asked for when scraped. Leaves: series in a Registry. Must not know: records, how is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.registry import Collector

from streamer.drift.report import StreamDrift
from streamer.telemetry.prometheus_series import Registry

_ASPECT = ("topic", "aspect", "facet")


class DriftMetrics(Collector):
    """`drift` gives the streams lately, on the thread of the scrape. Series: topics times facets times labels."""

    def __init__(self, registry: Registry, drift: Callable[[], Sequence[StreamDrift]]) -> None:
        self._drift = drift
        value = (*_ASPECT, "value")
        gauge = registry.gauge_family
        self._records = gauge(
            "drift_records", "Records that shares are of: counted ones, old ones weighing less.", ("topic",)
        )
        self._shares = gauge("drift_share_ratio", "Share of a label, score, length or language lately.", value)
        self._baseline = gauge("drift_baseline_share_ratio", "The same share in the baseline.", value)
        self._distance = gauge(
            "drift_distance",
            "Jensen-Shannon distance of shares lately from those of the baseline: 0 equal, 1 nothing in common.",
            _ASPECT,
        )
        self._outdated = gauge(
            "drift_baseline_outdated",
            "1 where the baseline was made with another version of the label set.",
            ("topic",),
        )
        registry.collectors.register(self)

    def collect(self) -> Iterator[Metric]:
        records, shares, baseline = self._records(), self._shares(), self._baseline()
        distance, outdated = self._distance(), self._outdated()
        for stream in self._drift():
            records.add_metric([stream.topic], stream.records)
            if stream.baseline_version is not None:
                outdated.add_metric([stream.topic], stream.baseline_version != stream.version)
            for one in stream.aspects:
                at = [stream.topic, one.aspect, one.facet]
                for family, values in ((shares, one.shares), (baseline, one.baseline or {})):
                    for value, share in values.items():
                        family.add_metric([*at, value], share)
                if one.distance is not None:
                    distance.add_metric(at, one.distance)
        yield from (records, shares, baseline, distance, outdated)
