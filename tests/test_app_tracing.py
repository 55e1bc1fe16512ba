"""Tracing as the settings want it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.app_tracing import tracing
from streamer.errors import UsageError
from streamer.settings import Settings, build_settings
from streamer.traces import NO_TRACES
from tests.collector import collector
from tests.commands import Command

CONTENT: dict[str, Any] = {
    "kafka": {"bootstrap_servers": "embedded"},
    "model": {"name": "fake"},
    "http": {"enabled": False},
    "label_sets": {"tickets": {"facets": {"mood": {"labels": ["bad", "good"]}}}},
    "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "tickets"}],
}


def settings(**wanted: Any) -> Settings:
    return build_settings({**CONTENT, "tracing": wanted}, origin="test")


def test_by_default_nothing_is_traced_and_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with tracing(settings()) as (traces, _):
        assert traces is NO_TRACES


def test_spans_go_where_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLECTOR_KEY", "s3cret")
    with collector() as seen:
        wanted = settings(
            enabled=True, endpoint=seen.endpoint, sample_ratio=1, headers={"api-key": {"env": "COLLECTOR_KEY"}}
        )
        with tracing(wanted) as (traces, observer):
            traces.begun([])
            traces.handed_out()
            observer.committed(1, 0.1)
        assert {span.name for span in seen.spans()} == {"label window", "commit"}
        assert seen.headers[0]["api-key"] == "s3cret"


def test_a_secret_that_is_missing_is_named() -> None:
    wanted = settings(enabled=True, headers={"api-key": {"env": "NO_SUCH_VARIABLE"}})
    told = "environment variable NO_SUCH_VARIABLE is not set; tracing.headers refers to it"
    with pytest.raises(UsageError, match=told), tracing(wanted):
        pass


@pytest.mark.parametrize("package", ["sdk.trace", "exporter.otlp.proto.http.trace_exporter"])
def test_without_the_extra_it_is_named_in_one_line(
    package: str, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, f"opentelemetry.{package}", None)
    file = tmp_path / "streamer.yaml"
    file.write_text(yaml.safe_dump({**CONTENT, "tracing": {"enabled": True}}))
    code, _, err = command("run", "-c", str(file))
    assert code == 2
    assert err.splitlines()[-1] == "error: tracing.enabled needs OpenTelemetry; pip install 'streamer[tracing]'"
