"""Settings of tracing: what is refused, and what it says."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamer.settings_tracing import TracingSettings


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://host/v1", "http://", "/v1/traces", "http://[", "x"])
def test_an_endpoint_is_a_whole_url(endpoint: str) -> None:
    with pytest.raises(ValidationError, match=r"write it whole|Invalid IPv6 URL"):
        TracingSettings(endpoint=endpoint)


def test_an_endpoint_holds_no_password() -> None:
    with pytest.raises(ValidationError, match=r"put them into tracing\.headers"):
        TracingSettings(endpoint="https://user:password@host/v1/traces")


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_a_ratio_is_a_share(ratio: float) -> None:
    with pytest.raises(ValidationError):
        TracingSettings(sample_ratio=ratio)


def test_headers_are_read_where_they_are_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cret")
    wanted = TracingSettings.model_validate({"headers": {"a": "1", "b": {"env": "KEY"}}})
    assert wanted.request_headers() == {"a": "1", "b": "s3cret"}
