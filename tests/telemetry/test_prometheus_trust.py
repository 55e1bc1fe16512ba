"""Series of drift and of the shadow."""

from __future__ import annotations

import time

from prometheus_client.parser import text_string_to_metric_families

from streamer.drift.report import AspectDrift, StreamDrift
from streamer.records import Stream
from streamer.telemetry.prometheus import PrometheusObserver

AT = {"topic": "tickets.raw", "aspect": "labels", "facet": "topic"}


def value(observer: PrometheusObserver, metric: str, /, **labels: str) -> float | None:
    for family in text_string_to_metric_families(observer.render().decode()):
        for sample in family.samples:
            if sample.name == f"streamer_{metric}" and sample.labels == labels:
                return float(sample.value)
    return None


def test_shares_and_distances_are_those_of_the_moment(streams: tuple[Stream, ...]) -> None:
    told: list[StreamDrift] = []
    observer = PrometheusObserver(
        streams=streams, wall_clock=time.time, longest_pauses=dict, drift=lambda: told, shadow=False
    )
    assert value(observer, "drift_records", topic="tickets.raw") is None
    one = AspectDrift("labels", "topic", {"billing": 0.75, "outage": 0.25}, {"billing": 1.0}, 0.3)
    other = AspectDrift("language", "", {"en": 1.0}, None, None)
    told.append(StreamDrift("tickets.raw", 120.5, "v1", "v0", (one, other)))
    assert value(observer, "drift_records", topic="tickets.raw") == 120.5
    assert value(observer, "drift_share_ratio", **AT, value="outage") == 0.25
    assert value(observer, "drift_baseline_share_ratio", **AT, value="billing") == 1.0
    assert value(observer, "drift_baseline_share_ratio", **AT, value="outage") is None
    assert value(observer, "drift_distance", **AT) == 0.3
    assert value(observer, "drift_share_ratio", topic="tickets.raw", aspect="language", facet="", value="en") == 1.0
    assert value(observer, "drift_distance", topic="tickets.raw", aspect="language", facet="") is None
    assert value(observer, "drift_baseline_outdated", topic="tickets.raw") == 1
    told[0] = StreamDrift("tickets.raw", 1.0, "v1", "v1", (one,))
    assert value(observer, "drift_baseline_outdated", topic="tickets.raw") == 0
    told[0] = StreamDrift("tickets.raw", 1.0, "v1", None, (one,))
    assert value(observer, "drift_baseline_outdated", topic="tickets.raw") is None


def test_agreement_and_what_was_dropped_are_counted(streams: tuple[Stream, ...]) -> None:
    observer = PrometheusObserver(streams=streams, wall_clock=time.time, longest_pauses=dict, drift=None, shadow=True)
    assert value(observer, "shadow_running") == 0
    observer.shadow_running(True)
    observer.shadow_scored("tickets.raw", [{"mood": True, "topic": False}, {"mood": True, "topic": True}, {}])
    observer.shadow_dropped("tickets.raw", "behind", 7)
    assert value(observer, "shadow_running") == 1
    assert value(observer, "shadow_records_total", topic="tickets.raw") == 3
    for facet, agreed in (("mood", 2), ("topic", 1)):
        assert value(observer, "shadow_compared_total", topic="tickets.raw", facet=facet) == 2
        assert value(observer, "shadow_agreed_total", topic="tickets.raw", facet=facet) == agreed
    assert value(observer, "shadow_dropped_total", topic="tickets.raw", reason="behind") == 7


def test_without_either_there_are_no_such_series(streams: tuple[Stream, ...]) -> None:
    observer = PrometheusObserver(streams=streams, wall_clock=time.time, longest_pauses=dict, drift=None, shadow=False)
    observer.shadow_dropped("tickets.raw", "behind", 7)
    assert b"streamer_drift" not in observer.render()
    assert b"streamer_shadow" not in observer.render()
