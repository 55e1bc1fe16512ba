"""What `streamer check` says of tracing: whether spans can be made and sent.

Enters: valid Settings. Leaves: Findings. Nothing is sent. Must not know: OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamer.check.findings import Finding, ok, told_by
from streamer.errors import UsageError
from streamer.extras import require_tracing
from streamer.settings_tracing import TracingSettings


def check_tracing(tracing: TracingSettings) -> Iterator[Finding]:
    """The extra and the secrets, where spans are wanted."""
    if not tracing.enabled:
        return
    try:
        require_tracing("tracing.enabled")
        tracing.request_headers()
    except UsageError as failure:
        yield told_by("tracing", failure)
        return
    yield ok("tracing", f"{tracing.sample_ratio:.0%} of the windows get a span, sent to {tracing.endpoint}")
