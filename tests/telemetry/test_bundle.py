"""What the loop tells reaches metrics, health and logs; threads and port live as long as the context."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request

import pytest
from structlog.testing import capture_logs

from streamer.engine.base import ModelInfo
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.page.live import PageOptions
from streamer.records import Stream
from streamer.telemetry.bundle import Telemetry

MODEL = ModelInfo(name="small", revision="abc123", device="cpu", dtype="float32", window_tokens=512)


def telemetry(
    streams: tuple[Stream, ...], address: tuple[str, int] | None, page: PageOptions | None = None
) -> Telemetry:
    return Telemetry(
        streams=streams,
        address=address,
        stuck_after_s=30.0,
        engine_stuck_after_s=120.0,
        drift=None,
        drift_json=None,
        shadow=False,
        page=page,
    )


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def test_the_loop_is_seen_from_outside(streams: tuple[Stream, ...], label_set: LabelSet) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    before = threading.active_count()
    with telemetry(streams, ("127.0.0.1", port)) as all_of_it, capture_logs() as lines:
        all_of_it.serving(MODEL, [label_set], window_records=128)
        observer = all_of_it.observer
        observer.started()
        observer.beat("poll")
        observer.committed(1, 0.01)
        observer.reload_failed("labels.yaml: not YAML")
        assert json.loads(get(port, "/healthz"))["stage"] == "poll"
        metrics = get(port, "/metrics")
        for series in (
            f'streamer_label_set_info{{name="tickets",version="{label_set.version}"}} 1.0',
            'streamer_loop_longest_pause_seconds{stage="poll"} ',
            "streamer_commit_seconds_count 1.0",
            "streamer_reload_failures_total 1.0",
        ):
            assert series in metrics
        assert "watchdog" in {thread.name for thread in threading.enumerate()}
    assert [line["event"] for line in lines] == ["started", "reload failed; the label sets stay as they are"]
    assert threading.active_count() == before


def test_without_an_address_only_the_watchdog_runs(streams: tuple[Stream, ...]) -> None:
    before = threading.active_count()
    with telemetry(streams, None):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_the_page_lives_as_long_as_the_context(streams: tuple[Stream, ...]) -> None:
    before = threading.active_count()
    shown = PageOptions(show_text=False, token=None)
    with telemetry(streams, ("127.0.0.1", 0), shown) as all_of_it:
        assert "live-page" in {thread.name for thread in threading.enumerate()}
        request = urllib.request.Request(str(all_of_it.page_address), headers={"Accept": "text/html"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            assert answer.headers["Content-Type"].startswith("text/html")
    assert threading.active_count() == before
    with telemetry(streams, ("127.0.0.1", 0)) as all_of_it:
        assert all_of_it.page_address is None
        assert "live-page" not in {thread.name for thread in threading.enumerate()}
    with telemetry(streams, None, shown) as all_of_it:
        assert all_of_it.page_address is None


def test_a_port_in_use_leaves_nothing_running(streams: tuple[Stream, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = threading.active_count()
        with pytest.raises(UsageError, match="telemetry cannot listen on"):
            telemetry(streams, ("127.0.0.1", taken.getsockname()[1])).__enter__()
        assert threading.active_count() == before
