"""What the loop tells a tracing system, and the one thing it takes from it: the headers that outputs carry.

Enters: windows of records, one after the other. Leaves: the same records, with the trace context that their outputs are
to have. Like an Observer's hooks these do nothing by default, are quick and do not raise. Must not know: who traces.

W3C Trace Context (https://www.w3.org/TR/trace-context/) travels in the Kafka headers TRACE_HEADERS.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamer.engine.base import EngineFacts
from streamer.records import Document, Envelope, Reject

TRACE_PARENT, TRACE_STATE = "traceparent", "tracestate"
TRACE_HEADERS = frozenset((TRACE_PARENT, TRACE_STATE))


class Traces:
    """No-op base. Windows come back in the order in which they were begun."""

    def begun(self, envelopes: Sequence[Envelope[Document | Reject]]) -> None:
        """A window goes to the engine, or, where it holds Rejects alone, past it."""

    def came_back(self, facts: EngineFacts | None) -> None:
        """The oldest window came back, and is handed out now; None: the engine had nothing to do."""

    def leaving(self, envelopes: Sequence[Envelope[Document]]) -> Sequence[Envelope[Document]]:
        """Records of that window of which events are made now; returned with the headers that events copy from."""
        return envelopes

    def handed_out(self) -> None:
        """All of that window has been sent."""


NO_TRACES = Traces()
