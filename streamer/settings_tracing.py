"""Settings of tracing: trace context in headers, and spans.

Enters: values of a settings file. Leaves: a frozen part of Settings. Must not know: how spans are made and sent.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from streamer.settings_parts import Part, SecretRef


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("no http or https URL; write it whole, e.g. http://localhost:4318/v1/traces")
    if parts.username or parts.password:
        raise ValueError("holds a name or a password; put them into tracing.headers")
    return value


class TracingSettings(Part):
    """W3C trace context of records, and OpenTelemetry spans of the work on them (`pip install 'streamer[tracing]'`)."""

    carry: bool = Field(True, description="copy the headers traceparent and tracestate from an input to its outputs")
    enabled: bool = Field(False, description="make spans and send them")
    endpoint: Annotated[str, AfterValidator(_url)] = Field(
        "http://localhost:4318/v1/traces", description="OTLP over HTTP, the whole URL"
    )
    headers: dict[str, str | SecretRef] = Field(
        default_factory=dict, repr=False, description="of the requests to the endpoint"
    )
    sample_ratio: float = Field(
        0.05, ge=0, le=1, description="share of windows with a span; a record's span goes by its own traceparent"
    )
    service_name: str = Field("streamer", min_length=1)

    def request_headers(self) -> dict[str, str]:
        """`headers` with secrets read; raises UsageError where one cannot be."""
        return {key: v.read("tracing.headers") if isinstance(v, SecretRef) else v for key, v in self.headers.items()}
