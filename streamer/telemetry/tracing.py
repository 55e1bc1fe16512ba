"""Spans of the road, by OpenTelemetry: a window, the engine's part of it, its commit, and records that are traced.

    label window                       root, sampled by ratio; links to the contexts that its records came with
      engine                           from handing it over until it came back
      commit                           child of the latest window that it may cover, with links to the others
    (a trace that a record came with)
      label TOPIC                      child of the record's own traceparent, where that is sampled; link to the window

Enters: windows and what becomes of them, on the loop's thread. Leaves: spans at a Tracer; records with a new
`traceparent`, that of their own span, so that their trace goes on behind this service. The work is bounded: of a window
no more than `most_records` records get a link or a span, all others keep the context they came with. No text, key or
header of a record is put into a span. Must not know: who takes the spans, settings.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from streamer.engine.base import EngineFacts
from streamer.observe import Observer
from streamer.records import Document, Envelope, Headers, Reject
from streamer.traces import TRACE_PARENT, TRACE_STATE, Traces

MOST_WINDOWS = 32  # that one commit links to
MOST_STATE_BYTES = 512  # of a tracestate that is read; all of it is carried
_TRACE_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII)
_TRACE_PARENT_BYTES = 55  # in version 00; later ones may add to it


@dataclass(slots=True)
class _Window:
    span: Span
    engine: Span | None
    begun_ns: int
    left: int  # records that may still get a span of their own


class SpanTraces(Traces, Observer):
    """Makes spans at `tracer`; `now_ns` gives Unix nanoseconds."""

    def __init__(self, *, tracer: Tracer, group_id: str, most_records: int, now_ns: Callable[[], int]) -> None:
        self._tracer = tracer
        self._of_all = {"messaging.system": "kafka", "messaging.consumer.group.name": group_id}
        self._most_records = most_records
        self._now_ns = now_ns
        self._under_way: deque[_Window] = deque()
        self._uncommitted: deque[SpanContext] = deque(maxlen=MOST_WINDOWS)

    def begun(self, envelopes: Sequence[Envelope[Document | Reject]]) -> None:
        begun_ns = self._now_ns()
        span = self._tracer.start_span(
            "label window", Context(), kind=SpanKind.CONSUMER, start_time=begun_ns, attributes=self._of_all
        )
        engine = None
        if span.is_recording():
            documents = sum(isinstance(one.payload, Document) for one in envelopes)
            span.set_attribute("messaging.operation.type", "process")
            span.set_attribute("messaging.batch.message_count", len(envelopes))
            span.set_attribute("streamer.topics", sorted({one.position.topic for one in envelopes}))
            span.set_attribute("streamer.rejects", len(envelopes) - documents)
            for context in self._contexts(envelopes):
                span.add_link(context)
            if documents:
                engine = self._tracer.start_span("engine", set_span_in_context(span), start_time=begun_ns)
        self._under_way.append(_Window(span, engine, begun_ns, self._most_records))

    def _contexts(self, envelopes: Sequence[Envelope[Document | Reject]]) -> list[SpanContext]:
        """Of the first records that have one."""
        found: list[SpanContext] = []
        for envelope in envelopes:
            if len(found) == self._most_records:
                break
            if envelope.headers and (context := context_of(envelope.headers)) is not None:
                found.append(context)
        return found

    def came_back(self, facts: EngineFacts | None) -> None:
        window = self._under_way[0]
        if window.engine is None or facts is None:
            return
        window.engine.set_attributes(
            {
                "streamer.documents": facts.documents,
                "streamer.scored": facts.scored,
                "streamer.batches": facts.batches,
                "streamer.tokens": facts.tokens,
                "streamer.out_of_memory": facts.out_of_memory,
                "streamer.tokenise_s": facts.tokenise_s,
                "streamer.forward_s": facts.forward_s,
            }
        )
        window.engine.end(self._now_ns())

    def leaving(self, envelopes: Sequence[Envelope[Document]]) -> Sequence[Envelope[Document]]:
        window = self._under_way[0]
        out = list(envelopes)
        for place, envelope in enumerate(envelopes):
            if not window.left:
                break
            if not envelope.headers:
                continue
            parent = context_of(envelope.headers)
            if parent is None or not parent.trace_flags.sampled:
                continue
            span = self._record_span(window, envelope, parent)
            if span.is_recording():
                window.left -= 1
                out[place] = envelope._replace(headers=_renewed(envelope.headers, span.get_span_context()))
            span.end(self._now_ns())
        return out

    def _record_span(self, window: _Window, envelope: Envelope[Document], parent: SpanContext) -> Span:
        topic, partition, offset = envelope.position
        whole = window.span.get_span_context()
        return self._tracer.start_span(
            f"label {topic}",
            set_span_in_context(NonRecordingSpan(parent), Context()),
            kind=SpanKind.CONSUMER,
            start_time=window.begun_ns,
            links=[Link(whole)] if whole.trace_flags.sampled else None,
            attributes={
                **self._of_all,
                "messaging.operation.type": "process",
                "messaging.destination.name": topic,
                "messaging.destination.partition.id": str(partition),
                "messaging.kafka.offset": offset,
            },
        )

    def handed_out(self) -> None:
        window = self._under_way.popleft()
        if window.span.is_recording():
            self._uncommitted.append(window.span.get_span_context())
        window.span.end(self._now_ns())

    def committed(self, partitions: int, seconds: float) -> None:
        self._of_windows("commit", seconds, failure=None)
        self._uncommitted.clear()

    def commit_failed(self) -> None:
        self._of_windows("commit", 0.0, failure="the commit came to nothing")

    def rewound(self, reason: str) -> None:
        self._of_windows("rewind", 0.0, failure="work since the last commit is read again")
        self._uncommitted.clear()

    def _of_windows(self, name: str, seconds: float, *, failure: str | None) -> None:
        """A span that ends now, child of the latest window handed out since the last commit."""
        if not self._uncommitted:
            return
        *others, latest = self._uncommitted
        end_ns = self._now_ns()
        span = self._tracer.start_span(
            name,
            set_span_in_context(NonRecordingSpan(latest), Context()),
            start_time=end_ns - int(seconds * 1e9),
            links=[Link(one) for one in others],
        )
        if failure is not None:
            span.set_status(Status(StatusCode.ERROR, failure))
        span.end(end_ns)

    def stopped(self) -> None:
        """What was not handed out any more is read again, by whoever has its partitions then."""
        for window in self._under_way:
            for span in filter(None, (window.engine, window.span)):
                span.set_status(Status(StatusCode.ERROR, "not finished when the process ended"))
                span.end(self._now_ns())
        self._under_way.clear()


def context_of(headers: Headers) -> SpanContext | None:
    """The trace context that a record came with; None where there is none, or none that is valid."""
    held = dict(headers)
    parent = held.get(TRACE_PARENT)
    if parent is None:
        return None
    found = _TRACE_PARENT.fullmatch(parent.decode("latin-1"))
    if found is None or (parent[:2] == b"00" and len(parent) != _TRACE_PARENT_BYTES):
        return None
    state = held.get(TRACE_STATE) or b""
    context = SpanContext(
        trace_id=int(found[1], 16),
        span_id=int(found[2], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(found[3], 16)),
        trace_state=TraceState.from_header([state.decode("latin-1")]) if 0 < len(state) <= MOST_STATE_BYTES else None,
    )
    return context if context.is_valid else None


def _renewed(headers: Headers, context: SpanContext) -> Headers:
    """The same headers with another span as parent; tracestate stays, which every span of a trace shares."""
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}".encode()
    return ((TRACE_PARENT, parent), *(header for header in headers if header[0] != TRACE_PARENT))
