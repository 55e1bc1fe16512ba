"""On a server whose answers to /slow take longer than the deadline for a request."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from streamer.telemetry.http_deadline import asking_within

HEAD_S = 0.3
SLOW_S = 3 * HEAD_S


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/slow":
        await asyncio.sleep(SLOW_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        answer, http=asking_within(HEAD_S), ws="none", lifespan="off", log_config=None, timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()
    listening.close()


def closed_after_s(connection: socket.socket, trickle: bytes = b"") -> float:
    """How long the other side keeps a connection on which `trickle` is sent byte by byte."""
    began_s = time.monotonic()
    connection.settimeout(HEAD_S / 10)
    for byte in trickle + bytes(1000):
        try:
            connection.sendall(bytes([byte]) if trickle else b"")
            if connection.recv(1000) == b"":
                break
        except TimeoutError:
            pass
        except ConnectionError:
            break
    return time.monotonic() - began_s


def test_a_connection_that_asks_nothing_is_closed(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        assert HEAD_S * 0.9 < closed_after_s(connection) < 10 * HEAD_S


def test_a_head_that_comes_byte_by_byte_is_waited_for_no_longer(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        assert closed_after_s(connection, b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 500) < 10 * HEAD_S


def test_neither_is_a_body_that_nobody_reads(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        assert closed_after_s(connection, b"a" * 500) < 10 * HEAD_S


def test_an_answer_takes_as_long_as_it_takes_and_the_next_may_follow(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for path in ("/slow", "/", "/slow"):
        connection.request("GET", path)
        assert connection.getresponse().read() == b"ok"
    connection.close()
