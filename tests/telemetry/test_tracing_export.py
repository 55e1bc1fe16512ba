"""Spans reach a collector, and one that fails is told once and holds nobody up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Document, Envelope, Position
from streamer.telemetry.tracing import SpanTraces
from streamer.telemetry.tracing_export import END_S, sending_spans
from tests.collector import Collector, collector

LABELS = LabelSet("tickets", (Facet("mood", Kind.SINGLE, (Label("bad"), Label("good"))),))
WAIT_S = 20.0


@pytest.fixture
def seen() -> Iterator[Collector]:
    with collector() as one:
        yield one


@contextmanager
def sending(endpoint: str, ratio: float = 1.0) -> Iterator[SpanTraces]:
    with sending_spans(
        endpoint=endpoint, headers={"api-key": "k"}, sample_ratio=ratio, service_name="labels", group_id="g"
    ) as traces:
        yield traces


def window(traces: SpanTraces) -> None:
    traces.begun([Envelope(Position("in", 0, 0), 0, None, (), None, b"{}", Document("x", LABELS))])
    traces.handed_out()


def test_spans_arrive_with_the_service_and_the_headers(seen: Collector) -> None:
    with sending(seen.endpoint) as traces:
        window(traces)
    assert {span.name for span in seen.spans()} == {"label window"}
    (resource,) = {one.resource.SerializeToString(): one.resource for one in seen.requests[0].resource_spans}.values()
    attributes = {one.key: one.value.string_value for one in resource.attributes}
    assert attributes["service.name"] == "labels"
    assert attributes["service.version"]
    assert seen.headers[0]["api-key"] == "k"


def test_a_ratio_of_0_sends_nothing(seen: Collector) -> None:
    with sending(seen.endpoint, ratio=0.0) as traces:
        window(traces)
    assert seen.requests == []


def test_what_gets_lost_is_told_once_and_so_is_its_end(seen: Collector, caplog: pytest.LogCaptureFixture) -> None:
    seen.status = 400
    with capture_logs() as lines, sending(seen.endpoint) as traces:
        deadline_s = time.monotonic() + WAIT_S
        while not lines:
            assert time.monotonic() < deadline_s
            window(traces)
            time.sleep(0.1)
        seen.status = 200
        while len(lines) < 2:
            assert time.monotonic() < deadline_s
            window(traces)
            time.sleep(0.1)
    lost, again = lines
    assert lost["event"] == "spans are lost: the collector does not take them"
    assert lost["endpoint"] == seen.endpoint
    assert again["event"] == "spans arrive again"
    assert again["lost"] >= 1
    assert caplog.messages == []


@pytest.mark.parametrize("silent", [True, False])
def test_a_collector_that_is_away_holds_nobody_up(seen: Collector, silent: bool) -> None:
    """One that takes the connection and never answers, and one that is not there."""
    seen.answering.clear()
    with capture_logs():
        began_s = time.monotonic()
        with sending(seen.endpoint if silent else "http://127.0.0.1:9/v1/traces") as traces:
            for _ in range(6000):  # more than the queue holds
                window(traces)
            fed_s = time.monotonic() - began_s
        assert fed_s < 10
        assert time.monotonic() - began_s - fed_s < END_S + 2
