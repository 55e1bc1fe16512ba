"""Metrics of the shadow: how often it agrees with the road, and what it could not keep up with.

Enters: hooks of `observe.Observer`, on the loop's thread and on the shadow's. Leaves: series in a Registry. Must not
know: models, queues.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from streamer.observe import Observer
from streamer.telemetry.prometheus_series import Registry


class ShadowMetrics(Observer):
    """Counts what the shadow did. A facet's agreement is `rate(streamer_shadow_agreed_total[5m]) /
    rate(streamer_shadow_compared_total[5m])`."""

    def __init__(self, registry: Registry) -> None:
        facet = ("topic", "facet")
        self._running = registry.gauge("shadow_running", "1 while the shadow has its model and takes records.", ())
        self._records = registry.counter("shadow_records", "Records that the shadow scored too.", ("topic",))
        self._compared = registry.counter("shadow_compared", "Verdicts compared with the road's.", facet)
        self._agreed = registry.counter("shadow_agreed", "Verdicts that were the same as the road's.", facet)
        self._dropped = registry.counter(
            "shadow_dropped", "Records of the shadow's share without a shadow event.", ("topic", "reason")
        )

    def shadow_running(self, running: bool) -> None:
        self._running.set(running)

    def shadow_scored(self, topic: str, agreed: Sequence[Mapping[str, bool]]) -> None:
        self._records[topic,].inc(len(agreed))
        compared = Counter(facet for one in agreed for facet in one)
        same = Counter(facet for one in agreed for facet, holds in one.items() if holds)
        for facet, count in compared.items():
            self._compared[topic, facet].inc(count)
            self._agreed[topic, facet].inc(same[facet])

    def shadow_dropped(self, topic: str, reason: str, records: int) -> None:
        self._dropped[topic, reason].inc(records)
