"""What a check says of tracing."""

from __future__ import annotations

import sys

import pytest

from streamer.check.findings import Level
from streamer.check.tracing import check_tracing
from streamer.settings_tracing import TracingSettings


def test_without_spans_nothing_is_said() -> None:
    assert list(check_tracing(TracingSettings())) == []


def test_where_spans_go_is_said() -> None:
    (finding,) = check_tracing(TracingSettings(enabled=True, sample_ratio=0.25))
    assert finding.level is Level.OK
    assert finding.what == "25% of the windows get a span, sent to http://localhost:4318/v1/traces"


def test_what_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = TracingSettings.model_validate({"enabled": True, "headers": {"api-key": {"env": "NO_SUCH_VARIABLE"}}})
    (finding,) = check_tracing(wanted)
    assert finding.level is Level.ERROR
    assert "NO_SUCH_VARIABLE" in finding.what
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    (finding,) = check_tracing(wanted)
    assert (finding.level, finding.advice) == (Level.ERROR, "pip install 'streamer[tracing]'")
