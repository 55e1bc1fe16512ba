from __future__ import annotations

import http.client
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamer.errors import UsageError
from streamer.records import Partition, Stream
from streamer.telemetry.health import Health
from streamer.telemetry.http import TelemetryServer
from streamer.telemetry.prometheus import PrometheusObserver


class Clock(Protocol):
    def __call__(self) -> float: ...

    def advance(self, seconds: float) -> None: ...


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock=clock, stuck_after_s=30.0, engine_stuck_after_s=120.0)


@pytest.fixture
def metrics(streams: tuple[Stream, ...]) -> PrometheusObserver:
    return PrometheusObserver(streams=streams, wall_clock=time.time, longest_pauses=dict, drift=None, shadow=False)


def make_server(health: Health, metrics: PrometheusObserver, port: int = 0) -> TelemetryServer:
    return TelemetryServer(host="127.0.0.1", port=port, health=health, metrics=metrics, drift_json=None, page=None)


@pytest.fixture
def server(health: Health, metrics: PrometheusObserver) -> Iterator[TelemetryServer]:
    server = make_server(health, metrics)
    server.start()
    yield server
    server.stop()


def ask(server: TelemetryServer, path: str, method: str = "GET", data: bytes | None = None) -> Answer:
    request = Request(f"http://127.0.0.1:{server.port}{path}", data=data, method=method)
    try:
        with urlopen(request, timeout=10) as response:  # noqa: S310
            answer = Answer(response.status, dict(response.headers), response.read())
    except HTTPError as error:
        with error:
            answer = Answer(error.code, dict(error.headers), error.read())
    return Answer(answer.status, {name.lower(): text for name, text in answer.headers.items()}, answer.body)


def test_health_follows_the_loop(server: TelemetryServer, health: Health, clock: Clock) -> None:
    assert ask(server, "/healthz").status == 200
    not_ready = ask(server, "/readyz")
    assert not_ready.status == 503
    assert json.loads(not_ready.body)["reasons"] == ["the model is not warm yet"]

    health.started()
    health.assigned([Partition("tickets.raw", 0)])
    ready = ask(server, "/readyz")
    assert ready.status == 200
    assert ready.headers["content-type"] == "application/json"
    assert json.loads(ready.body)["partitions"] == 1

    clock.advance(31.0)
    stuck = ask(server, "/healthz")
    assert stuck.status == 503
    assert json.loads(stuck.body)["reasons"] == ["the loop stands still in 'start' for 31 s (limit 30 s)"]


def test_metrics_are_what_the_observer_was_fed(server: TelemetryServer, metrics: PrometheusObserver) -> None:
    metrics.consumed("tickets.raw", 1234)
    answer = ask(server, "/metrics")
    samples = [sample for family in text_string_to_metric_families(answer.body.decode()) for sample in family.samples]
    consumed = {s.labels["topic"]: s.value for s in samples if s.name == "streamer_records_consumed_total"}
    assert consumed == {"tickets.raw": 1234, "posts.raw": 0}
    assert answer.headers["content-type"] == metrics.content_type


def test_index_names_the_endpoints(server: TelemetryServer) -> None:
    index = json.loads(ask(server, "/").body)
    assert index["service"] == "streamer"
    assert all(ask(server, path).status in (200, 503) for path in index["endpoints"])


def test_without_a_page_browsers_get_the_index_too(server: TelemetryServer) -> None:
    request = Request(f"http://127.0.0.1:{server.port}/", headers={"Accept": "text/html"})
    with urlopen(request, timeout=10) as answer:  # noqa: S310
        assert json.loads(answer.read())["service"] == "streamer"
    for path in ("/page/events", "/page/page.js"):
        assert ask(server, path).status == 404


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/nothing/here"])
def test_answers_are_neither_cached_nor_sniffed(server: TelemetryServer, path: str) -> None:
    answer = ask(server, path)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics"])
def test_only_get_and_head(server: TelemetryServer, path: str) -> None:
    head = ask(server, path, "HEAD")
    assert head.status == ask(server, path).status
    assert head.body == b""
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert ask(server, path, method, b"x" * 100).status == 405


def test_a_request_head_without_end_is_cut_off(server: TelemetryServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nX-Long: ")
        with pytest.raises(ConnectionError):
            connection.sendall(b"a" * (32 << 20))
    assert ask(server, "/healthz").status == 200


def test_a_port_in_use_is_one_clear_line(server: TelemetryServer, health: Health, metrics: PrometheusObserver) -> None:
    second = make_server(health, metrics, server.port)
    with pytest.raises(UsageError) as caught:
        second.start()
    message = str(caught.value)
    assert f"127.0.0.1:{server.port}" in message
    assert "in use" in message
    assert "\n" not in message
    second.stop()
    assert ask(server, "/healthz").status == 200


def test_a_host_that_is_not_ours_is_one_clear_line(health: Health, metrics: PrometheusObserver) -> None:
    with pytest.raises(UsageError, match=r"192\.0\.2\.1:0"):
        TelemetryServer(host="192.0.2.1", port=0, health=health, metrics=metrics, drift_json=None, page=None).start()


def test_stop_is_quick_and_frees_the_port(health: Health, metrics: PrometheusObserver) -> None:
    server = make_server(health, metrics)
    server.start()
    idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    idle.request("GET", "/healthz")
    idle.getresponse().read()
    unfinished = socket.create_connection(("127.0.0.1", server.port))
    unfinished.sendall(b"GET /metrics HTTP/1.1\r\n")

    begun_s = time.monotonic()
    server.stop()
    assert time.monotonic() - begun_s < 3.0
    idle.close()
    unfinished.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "telemetry-http"]

    again = make_server(health, metrics, server.port)
    again.start()
    assert ask(again, "/healthz").status == 200
    again.stop()


def test_stop_right_after_start(health: Health, metrics: PrometheusObserver) -> None:
    server = make_server(health, metrics)
    server.start()
    server.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_it_works_off_the_main_thread_and_leaves_signals_and_logging_alone(
    health: Health, metrics: PrometheusObserver
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    uvicorn_handlers = list(logging.getLogger("uvicorn").handlers)
    server = make_server(health, metrics)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    assert ask(server, "/healthz").status == 200
    server.stop()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert logging.getLogger("uvicorn").handlers == uvicorn_handlers


def test_scrapes_while_the_loop_counts(server: TelemetryServer, metrics: PrometheusObserver) -> None:
    done = threading.Event()

    def count() -> None:
        number = 0
        while not done.is_set():
            number += 1
            metrics.published("tickets.raw", [0.1])
            metrics.revoked([Partition("tickets.raw", number % 50)], lost=False)

    loop = threading.Thread(target=count)
    loop.start()
    statuses = {ask(server, "/metrics").status for _ in range(10)}
    done.set()
    loop.join()
    assert statuses == {200}
