"""Where spans go: a collector, by OTLP over HTTP, from a thread of the library.

Enters: an endpoint. Leaves: SpanTraces whose spans are sent until the context ends. Whatever the collector does, the
road does not notice: what cannot be sent in time is dropped. Must not know: settings, the loop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from streamer import __version__
from streamer.telemetry.tracing import SpanTraces

MOST_RECORDS = 128  # of a window
QUEUE_SPANS, BATCH_SPANS, DELAY_MS = 4096, 512, 2000
REQUEST_S = 5.0
END_S = 3.0  # what is left to send when the process ends has so long
# the library's own lines come once for every batch, and name no endpoint
_LIBRARY = "opentelemetry"


class Told(SpanExporter):
    """An exporter that tells the log when spans begin to get lost, and when they arrive again."""

    def __init__(self, inner: SpanExporter, *, endpoint: str) -> None:
        self._inner = inner
        self._endpoint = endpoint
        self._log = structlog.get_logger()
        self._lost_spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._inner.export(spans)
        except Exception:
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            if not self._lost_spans:
                self._log.warning("spans are lost: the collector does not take them", endpoint=self._endpoint)
            self._lost_spans += len(spans)
        elif self._lost_spans:
            self._log.info("spans arrive again", endpoint=self._endpoint, lost=self._lost_spans)
            self._lost_spans = 0
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


@contextmanager
def sending_spans(
    *, endpoint: str, headers: Mapping[str, str], sample_ratio: float, service_name: str, group_id: str
) -> Iterator[SpanTraces]:
    """Traces whose spans go to `endpoint`. Its end takes at most END_S, whether they arrive or not."""
    logging.getLogger(_LIBRARY).setLevel(logging.CRITICAL)
    exporter = Told(OTLPSpanExporter(endpoint, headers=headers, timeout=REQUEST_S), endpoint=endpoint)
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=Resource.create({"service.name": service_name, "service.version": __version__}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(
        BatchSpanProcessor(
            exporter,
            max_queue_size=QUEUE_SPANS,
            schedule_delay_millis=DELAY_MS,
            max_export_batch_size=BATCH_SPANS,
        )
    )
    try:
        yield SpanTraces(
            tracer=provider.get_tracer("streamer", __version__),
            group_id=group_id,
            most_records=MOST_RECORDS,
            now_ns=time.time_ns,
        )
    finally:
        ending = threading.Thread(target=provider.shutdown, name="tracing-end", daemon=True)
        ending.start()
        ending.join(END_S)
        if ending.is_alive():
            exporter.shutdown()  # it may be waiting to try again
