"""Trace context on the real loop: what outputs and dead letters carry, with spans and without."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Event
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streamer.app import build_pipeline
from streamer.delivery import AtLeastOnce
from streamer.engine.fake import FakeClassifier
from streamer.observe import Observer, Observers
from streamer.records import Headers
from streamer.settings import Settings, build_settings
from streamer.telemetry.tracing import SpanTraces
from streamer.traces import NO_TRACES, Traces
from streamer.transport.memory import MemorySink, MemorySource
from streamer.transport.memory_broker import MemoryBroker, Stored

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
TRACED: Headers = (("traceparent", PARENT), ("tracestate", b"vendor=1"), ("private", b"1"))
GOOD = b'{"text": "the parcel is late"}'


class Ended(Observer):
    """Stops the loop when so many records have ended."""

    def __init__(self, records: int) -> None:
        self.stop = Event()
        self._left = records

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self._ended(len(latencies_s))

    def dead_lettered(self, topic: str, records: int) -> None:
        self._ended(records)

    def _ended(self, records: int) -> None:
        self._left -= records
        if not self._left:
            self.stop.set()


def settings(**tracing: Any) -> Settings:
    content = {
        "model": {"name": "fake"},
        "tracing": tracing,
        "label_sets": {
            "tickets": {
                "facets": {"mood": {"labels": ["bad", "good"]}},
                "routes": [{"when": {"facet": "mood", "label": mood}, "to": mood} for mood in ("bad", "good")],
            }
        },
        "streams": [
            {"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "tickets", "pass_headers": ["kept"]}
        ],
    }
    return build_settings(content, origin="test")


def label(
    asked: Settings, records: Sequence[tuple[bytes, Headers]], traces: Traces, *observers: Observer
) -> tuple[list[Stored], list[Stored]]:
    """Outputs in the order of their topics, and dead letters."""
    broker = MemoryBroker(partitions=1, max_message_bytes=20_000, now_ms=lambda: 1_700_000_000_000)
    broker.create_topic("in")
    for value, headers in records:
        broker.produce("in", value, headers=headers)
    ended = Ended(len(records))
    observer = Observers(ended, *observers)
    source = MemorySource(broker=broker, group_id="g", topics=["in"], auto_offset_reset="earliest")
    classifier = FakeClassifier(window_tokens=100, max_tokens=4000, window_s=0.0, record_s=0.0)
    delivery = AtLeastOnce(
        source=source, sink=MemorySink(broker=broker), observer=observer, commit_interval_s=0.01,
        clock=time.monotonic, sleep=time.sleep,
    )  # fmt: skip
    build_pipeline(
        asked,
        source=source,
        delivery=delivery,
        streams=asked.build_streams(),
        classifier=classifier,
        label_sets=asked.build_label_sets(),
        observer=observer,
        traces=traces,
    ).run(ended.stop)
    classifier.close()
    outputs = [one for topic in ("out", "bad", "good") for one in broker.messages(topic).values()]
    return outputs, list(broker.messages("dead").values())


def test_outputs_carry_the_context_and_nothing_else_unasked() -> None:
    (output, bare), _ = label(settings(), [(GOOD, (*TRACED, ("kept", b"2"))), (GOOD, ())], NO_TRACES)
    assert output.headers == (TRACED[0], TRACED[1], ("kept", b"2"))
    assert bare.headers == ()


def test_it_can_be_turned_off() -> None:
    (output,), _ = label(settings(carry=False), [(GOOD, (*TRACED, ("kept", b"2")))], NO_TRACES)
    assert output.headers == (("kept", b"2"),)


def test_a_dead_letter_carries_what_its_input_did() -> None:
    spans, traces = tracing()
    _, (dead,) = label(settings(), [(b"no JSON", TRACED)], traces, traces)
    assert dead.headers[:3] == TRACED
    assert {span.name for span in spans.get_finished_spans()} == {"label window", "commit"}


def tracing() -> tuple[InMemorySpanExporter, SpanTraces]:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("test")
    return spans, SpanTraces(tracer=tracer, group_id="g", most_records=100, now_ns=time.time_ns)


@pytest.mark.parametrize("routed", [False, True])
def test_an_output_carries_the_span_of_its_record(routed: bool) -> None:
    """Also where it goes to several topics."""
    seen, traces = tracing()
    asked = settings()
    if not routed:
        asked = asked.model_copy(
            update={"label_sets": {"tickets": asked.label_sets["tickets"].model_copy(update={"routes": []})}}
        )
    outputs, _ = label(asked, [(GOOD, TRACED)] * 5 + [(GOOD, ())], traces, traces)
    spans = list(seen.get_finished_spans())
    found = {hexed(span) for span in spans if span.name == "label in"}
    carried = {dict(one.headers)["traceparent"] for one in outputs if one.headers}
    assert len(found) == 5
    assert carried == found
    assert all(dict(one.headers)["tracestate"] == b"vendor=1" for one in outputs if one.headers)
    assert {"label window", "engine", "commit"} < {span.name for span in spans}


def hexed(span: ReadableSpan) -> bytes:
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01".encode()
