"""Tracing put together. A part of the composition root `app.py`.

Enters: Settings. Leaves: what the loop tells of windows, and an Observer. OpenTelemetry is imported where it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streamer.extras import require_tracing
from streamer.observe import Observer
from streamer.settings import Settings
from streamer.traces import NO_TRACES, Traces


@contextmanager
def tracing(settings: Settings) -> Iterator[tuple[Traces, Observer]]:
    """Spans are sent until the context ends, where the settings want them. Raises UsageError where the extra `tracing`
    is not installed, or a secret cannot be read."""
    wanted = settings.tracing
    if not wanted.enabled:
        yield NO_TRACES, Observer()
        return
    require_tracing("tracing.enabled")
    from streamer.telemetry.tracing_export import sending_spans

    with sending_spans(
        endpoint=wanted.endpoint,
        headers=wanted.request_headers(),
        sample_ratio=wanted.sample_ratio,
        service_name=wanted.service_name,
        group_id=settings.kafka.group_id,
    ) as spans:
        yield spans, spans
