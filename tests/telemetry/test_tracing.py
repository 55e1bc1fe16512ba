"""Spans of windows, the engine, commits and records, as the library's own exporter in memory finds them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from streamer.engine.base import EngineFacts
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Document, Envelope, Headers, Position, Reject
from streamer.telemetry.tracing import MOST_STATE_BYTES, MOST_WINDOWS, SpanTraces, context_of

LABELS = LabelSet("tickets", (Facet("mood", Kind.SINGLE, (Label("bad"), Label("good"))),))
FACTS = EngineFacts(documents=2, batches=1, tokens=30, padded_tokens=30, tokenise_s=0.01, forward_s=0.2)
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01".encode(), f"00-{TRACE}-{SPAN}-00".encode()


class Desk:
    """Traces whose clock is moved by hand, and what they made."""

    def __init__(self, *, ratio: float = 1.0, most_records: int = 8) -> None:
        self.now_ns = 1_000_000_000
        self._seen = InMemorySpanExporter()
        provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(ratio)), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._seen))
        self.traces = SpanTraces(
            tracer=provider.get_tracer("test"), group_id="g", most_records=most_records, now_ns=lambda: self.now_ns
        )

    def window(self, *headers: Headers) -> list[Headers]:
        """Records with these headers go the whole way; returns the headers that their events copy from."""
        envelopes = [record(offset, one) for offset, one in enumerate(headers)]
        self.traces.begun(envelopes)
        self.now_ns += 1_000_000
        self.traces.came_back(FACTS)
        leaving = self.traces.leaving(envelopes)
        assert [one.position for one in leaving] == [one.position for one in envelopes]
        self.traces.handed_out()
        return [one.headers for one in leaving]

    def spans(self) -> list[ReadableSpan]:
        return list(self._seen.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans() if span.name == name]


def record(offset: int, headers: Headers) -> Envelope[Document]:
    return Envelope(
        Position("in", 3, offset), 0, b"secret key", headers, None, b"{}", Document("private words", LABELS)
    )


def traced(parent: bytes, *more: tuple[str, bytes | None]) -> Headers:
    return (("traceparent", parent), *more)


def identities(spans: Sequence[ReadableSpan]) -> set[int]:
    return {span.context.span_id for span in spans if span.context is not None}


def test_a_window_links_to_its_records_and_holds_the_engine() -> None:
    desk = Desk()
    desk.window(traced(SAMPLED), (), traced(UNSAMPLED), (("other", b"1"),))
    (window,), (engine,) = desk.named("label window"), desk.named("engine")
    assert window.parent is None
    assert [(link.context.trace_id, link.context.span_id) for link in window.links] == [
        (int(TRACE, 16), int(SPAN, 16))
    ] * 2
    assert window.attributes is not None
    assert window.attributes["messaging.batch.message_count"] == 4
    assert window.attributes["streamer.topics"] == ("in",)
    assert engine.parent is not None
    assert {engine.parent.span_id} == identities([window])
    assert engine.end_time is not None
    assert engine.start_time is not None
    assert engine.end_time - engine.start_time == 1_000_000
    assert engine.attributes is not None
    assert engine.attributes["streamer.tokens"] == 30


def test_a_traced_record_goes_on_in_its_own_trace() -> None:
    desk = Desk()
    state = ("tracestate", b"vendor=1")
    first, *others = desk.window(traced(SAMPLED, state, ("kept", None)), traced(UNSAMPLED, state), (("kept", b"1"),))
    (span,), (window,) = desk.named("label in"), desk.named("label window")
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert {link.context.span_id for link in span.links} == identities([window])
    assert span.context is not None
    assert dict(first) == {
        "traceparent": f"00-{TRACE}-{span.context.span_id:016x}-01".encode(),
        "tracestate": b"vendor=1",
        "kept": None,
    }
    assert others == [traced(UNSAMPLED, state), (("kept", b"1"),)]
    assert span.attributes is not None
    assert span.attributes["messaging.kafka.offset"] == 0


def test_without_a_window_sampled_records_are_traced_all_the_same() -> None:
    desk = Desk(ratio=0.0)
    (headers,) = desk.window(traced(SAMPLED))
    (span,) = desk.spans()
    assert span.name == "label in"
    assert not span.links
    assert headers != traced(SAMPLED)
    desk.traces.committed(1, 0.5)
    assert len(desk.spans()) == 1


def test_of_a_large_window_a_bounded_number_is_traced() -> None:
    desk = Desk(most_records=3)
    left = desk.window(*[traced(SAMPLED)] * 5)
    assert len(desk.named("label in")) == len(desk.named("label window")[0].links) == 3
    assert left[3:] == [traced(SAMPLED)] * 2
    desk.window(traced(SAMPLED))
    assert len(desk.named("label in")) == 4


def test_a_commit_is_a_child_of_the_last_window_and_links_to_the_others() -> None:
    desk = Desk()
    for _ in range(3):
        desk.window(())
    desk.traces.commit_failed()
    desk.now_ns += 2_000_000_000
    desk.traces.committed(1, 0.5)
    failed, done = desk.named("commit")
    *others, last = desk.named("label window")
    for span in (failed, done):
        assert span.parent is not None
        assert {span.parent.span_id} == identities([last])
        assert {link.context.span_id for link in span.links} == identities(others)
    assert not failed.status.is_ok
    assert failed.status.description == "the commit came to nothing"
    assert done.start_time == desk.now_ns - 500_000_000
    desk.traces.committed(1, 0.5)
    assert len(desk.named("commit")) == 2
    for _ in range(2 * MOST_WINDOWS):
        desk.window(())
    desk.traces.rewound("a reason that is not told")
    (rewound,) = desk.named("rewind")
    assert len(rewound.links) == MOST_WINDOWS - 1
    assert not rewound.status.is_ok


def test_windows_of_rejects_alone_have_no_engine() -> None:
    desk = Desk()
    reject = record(0, traced(SAMPLED)).replace(Reject("not_json", "private words"))
    desk.traces.begun([reject])
    desk.traces.came_back(None)
    desk.traces.handed_out()
    (window,) = desk.spans()
    assert window.name == "label window"
    assert window.attributes is not None
    assert window.attributes["streamer.rejects"] == 1


def test_what_was_not_handed_out_ends_with_the_process() -> None:
    desk = Desk()
    desk.traces.begun([record(0, ())])
    desk.traces.begun([record(1, ())])
    desk.traces.stopped()
    assert sorted(span.name for span in desk.spans()) == ["engine", "engine", "label window", "label window"]
    assert not any(span.status.is_ok for span in desk.spans())


def test_no_text_or_key_is_in_a_span() -> None:
    desk = Desk()
    desk.window(traced(SAMPLED, ("session", b"a secret header")))
    desk.traces.committed(1, 0.1)
    told = "".join(span.to_json() for span in desk.spans())
    assert all(word not in told for word in ("private", "secret"))


@pytest.mark.parametrize(
    "parent",
    [
        None,
        b"",
        b"\xff\xfe",
        SAMPLED[:-1],
        SAMPLED + b"0",
        SAMPLED + b"-more",
        b"ff" + SAMPLED[2:],
        SAMPLED.upper(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        "00-\u0664bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01".encode(),
    ],
)
def test_a_context_that_is_none_is_left_alone(parent: bytes | None) -> None:
    headers: Headers = (("traceparent", parent),)
    assert context_of(headers) is None
    assert Desk().window(headers) == [headers]


@pytest.mark.parametrize("state", [b"", b"k" * (MOST_STATE_BYTES + 1), b"\xff=,,,", None])
def test_a_tracestate_that_cannot_be_read_is_carried_all_the_same(state: bytes | None) -> None:
    (headers,) = Desk().window(traced(SAMPLED, ("tracestate", state)))
    assert dict(headers)["tracestate"] == state


def test_a_later_version_of_the_format_is_read() -> None:
    context = context_of(traced(b"01" + SAMPLED[2:] + b"-more"))
    assert context is not None
    assert context.trace_id == int(TRACE, 16)
