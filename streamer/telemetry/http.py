"""Health and metrics over HTTP, from a thread of the same process.

Enters: GET and HEAD requests. Leaves: `/healthz` and `/readyz` (JSON; 200 or 503), `/metrics` (text for Prometheus),
`/drift` (JSON, where drift is watched), `/` (JSON index; the live page for whoever takes HTML, where there is one).
Nothing can be changed from here and no request body is read. Must not know: the loop, settings.

The thread runs uvicorn on an event loop of its own, so a slow scrape or a stuck client never holds up the loop.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamer.errors import UsageError
from streamer.telemetry.health import Health, Report
from streamer.telemetry.http_deadline import asking_within

_MAX_REQUEST_HEAD_BYTES = 16 * 1024
_MAX_CONNECTIONS = 256  # with more of them open, requests are answered 503
_HEAD_S = 10  # a connection that has asked nothing for so long is closed
_KEEP_ALIVE_S = 5
_EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - recognised, not listened on
_SHUTDOWN_S = 1  # a response still under way at shutdown is cut off after this


class Metrics(Protocol):
    """Where a scrape comes from; called on the server's thread."""

    @property
    def content_type(self) -> str: ...

    def render(self) -> bytes: ...


class Page(Protocol):
    """A page for people, beside what programs ask for; called on the server's thread."""

    @property
    def routes(self) -> Sequence[BaseRoute]: ...

    def wanted(self, request: Request) -> bool:
        """Whether this request for `/` is for the page."""

    async def front(self, request: Request) -> Response: ...


class _SafeHeaders:
    """Answers are never cached nor sniffed, error answers included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Cache-Control"] = "no-store"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _app(health: Health, metrics: Metrics, drift_json: Callable[[], bytes] | None, page: Page | None) -> Starlette:
    # all endpoints are quick reads of memory: async, to need no pool of threads
    def answer(report: Report) -> Response:
        return JSONResponse(report, status_code=200 if report["ok"] else 503)

    async def healthz(request: Request) -> Response:
        return answer(health.alive())

    async def readyz(request: Request) -> Response:
        return answer(health.ready())

    async def scrape(request: Request) -> Response:
        return Response(metrics.render(), headers={"Content-Type": metrics.content_type})

    async def index(request: Request) -> Response:
        if page is not None and page.wanted(request):
            return await page.front(request)
        return JSONResponse({"service": "streamer", "endpoints": list(endpoints)[1:]})

    endpoints = {"/": index, "/healthz": healthz, "/readyz": readyz, "/metrics": scrape}
    if drift_json is not None:
        counted = drift_json

        async def drift(request: Request) -> Response:
            return Response(counted(), media_type="application/json")

        endpoints["/drift"] = drift
    return Starlette(
        routes=[
            *(Route(path, endpoint, methods=["GET"]) for path, endpoint in endpoints.items()),
            *(() if page is None else page.routes),
        ],
        middleware=[Middleware(_SafeHeaders)],
    )


class TelemetryServer:
    """Serves `health`, `metrics`, `drift_json` and `page` (None: nothing of the kind) on `host`:`port` from `start` to
    `stop`; port 0 takes a free one."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        health: Health,
        metrics: Metrics,
        drift_json: Callable[[], bytes] | None,
        page: Page | None,
    ) -> None:
        self._host = host
        self._port = port
        # own sockets, own thread, no configuration of logging, and (off the main thread) no signal handlers
        self._server = uvicorn.Server(
            uvicorn.Config(
                _app(health, metrics, drift_json, page),
                loop="asyncio",
                http=asking_within(_HEAD_S),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MAX_CONNECTIONS,
                h11_max_incomplete_event_size=_MAX_REQUEST_HEAD_BYTES,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_SHUTDOWN_S,
            )
        )
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port listened on; before `start`, the one asked for."""
        return self._port

    @property
    def address(self) -> str:
        """Where a browser of this machine finds it."""
        host = "localhost" if self._host in _EVERY_ADDRESS else self._host
        return f"http://[{host}]:{self._port}/" if ":" in host else f"http://{host}:{self._port}/"

    def start(self) -> None:
        """Listen and return; requests are taken from now on. UsageError when the address cannot be had."""
        self._socket = self._listen()
        self._port = self._socket.getsockname()[1]
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="telemetry-http", daemon=True
        )
        self._thread.start()

    def _listen(self) -> socket.socket:
        try:
            family, _, _, _, address = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # `::` means every address of the host
            return socket.create_server(address, family=family, dualstack_ipv6=both)
        except OSError as error:
            raise UsageError(
                f"telemetry cannot listen on {self._host}:{self._port}: {error.strerror or error}; "
                "set another telemetry host or port (0 takes a free port)"
            ) from error

    def stop(self) -> None:
        """Close the port and end the thread, within a few seconds whatever clients do; also when never started."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=2 * _SHUTDOWN_S + 1)
        if self._socket is not None:
            self._socket.close()
