"""Series of our own make show what the library's would."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from streamer.telemetry.prometheus_series import Registry, WithoutCreated

BUCKETS = (0.01, 0.5, 1, 60)


def test_a_histogram_of_many_values_shows_what_the_librarys_does_of_one_at_a_time() -> None:
    chance = random.Random(5)
    plain = Registry()
    slow = Histogram("streamer_x", "About x.", ("topic",), buckets=BUCKETS, registry=plain.collectors)
    ours = Registry()
    fast = ours.many_histogram("x", "About x.", ("topic",), BUCKETS)
    slow.labels("none")
    fast.observe(("none",), ())
    for _ in range(20):
        topic = chance.choice(["a", "b"])
        values = [chance.choice([*BUCKETS, 0.0, 1e9, chance.random()]) for _ in range(chance.randrange(50))]
        fast.observe((topic,), values)
        for value in values:
            slow.labels(topic).observe(value)
    assert shown(ours) == shown(plain)


def shown(registry: Registry) -> list[str]:
    found = CollectorRegistry()
    found.register(WithoutCreated(registry))
    return sorted(generate_latest(found).decode().splitlines())
