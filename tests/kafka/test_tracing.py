"""Trace context through Apache Kafka: from the headers of an input to those of its output, and into spans."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from streamer.app import Connection
from streamer.observe import Observer
from streamer.records import Outbound
from streamer.serving import serve
from streamer.settings import build_settings
from tests.collector import Collector, collector

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

pytestmark = pytest.mark.kafka

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
RECORDS = 20
WAIT_S = 60.0


class Published(Observer):
    def __init__(self) -> None:
        self.records = 0

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self.records += len(latencies_s)


def carried(road: RoadBroker, name: str, delivery: str, seen: Collector | None) -> list[dict[str, bytes]]:
    """Headers of the outputs of records that came with a trace context."""
    for topic in ("in", "out", "dead"):
        road.create_topic(f"{name}-{topic}")
    content = {
        "kafka": {"bootstrap_servers": road.bootstrap_servers, "group_id": name, "transactional_id": name},
        "delivery": delivery,
        "model": {"name": "fake"},
        "http": {"enabled": False},
        "tracing": {} if seen is None else {"enabled": True, "endpoint": seen.endpoint, "sample_ratio": 1.0},
        "label_sets": {"tickets": {"facets": {"mood": {"labels": ["angry", "happy"]}}}},
        "streams": [
            {"topic": f"{name}-in", "output": f"{name}-out", "dead_letter": f"{name}-dead", "label_set": "tickets"}
        ],
    }
    headers = (("traceparent", PARENT), ("tracestate", b"vendor=1"), ("private", b"1"))
    road.produce(
        [Outbound(f"{name}-in", b"k", b'{"text": "the parcel is late"}', headers, None, False) for _ in range(RECORDS)]
    )
    stop, watch = threading.Event(), Published()
    connection = Connection(road.bootstrap_servers, {}, embedded=False)
    thread = threading.Thread(
        target=serve,
        args=(build_settings(content, origin="test"),),
        kwargs={"connection": connection, "stop": stop, "observers": [watch], "settings_path": None},
    )
    thread.start()
    deadline_s = time.monotonic() + WAIT_S
    while watch.records < RECORDS and time.monotonic() < deadline_s and thread.is_alive():
        time.sleep(0.05)
    stop.set()
    thread.join(WAIT_S)
    found = [message.headers() for message in road.read_all(f"{name}-out")]
    assert len(found) == RECORDS
    return [dict(one) for one in found if one is not None]  # type: ignore[arg-type]  # pairs, when read


def test_a_context_travels_as_it_is(kafka_road: RoadBroker, unique: str) -> None:
    found = carried(kafka_road, unique, "at_least_once", None)
    assert found == [{"traceparent": PARENT, "tracestate": b"vendor=1"}] * RECORDS


def test_with_spans_the_trace_goes_on_behind_them(kafka_road: RoadBroker, unique: str) -> None:
    with collector() as seen:
        found = carried(kafka_road, unique, "exactly_once", seen)
        spans = seen.spans()
    own = {f"00-{one.trace_id.hex()}-{one.span_id.hex()}-01".encode() for one in spans if one.name.startswith("label ")}
    assert {one["traceparent"] for one in found} < own
    assert len({one["traceparent"] for one in found}) == RECORDS
    assert {one["traceparent"][3:35].decode() for one in found} == {TRACE}
    assert {"label window", "engine", "commit"} < {one.name for one in spans}
    windows = {one.span_id for one in spans if one.name == "label window"}
    assert {one.parent_span_id for one in spans if one.name == "commit"} <= windows
