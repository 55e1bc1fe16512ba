"""Toxiproxy: connections to brokers that are slow, cut, or silent.

Enters: where each proxy listens and passes on to. Leaves: proxies, spoiled and mended by toxiproxy's HTTP interface.
Must not know: Kafka.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from load_tests.harness import REQUEST_S, LoadTestError
from load_tests.process import free_port

VERSION = "v2.5.0"
PACKAGE = f"github.com/Shopify/toxiproxy/v2/cmd/server@{VERSION}"
TOOLS = Path(__file__).parents[2] / ".tools" / "bin"
START_S = 10.0
PAUSE_S = 0.05
LEAVE_S = 5.0


class Toxiproxy:
    """A running server."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def proxy(self, name: str, *, listen: int, upstream: int) -> None:
        """Pass on what comes to port `listen` of this machine to port `upstream`."""
        where = {"listen": f"127.0.0.1:{listen}", "upstream": f"127.0.0.1:{upstream}"}
        self._ask("POST", "/proxies", {"name": name, **where, "enabled": True})

    def spoil(self, name: str, kind: str, stream: str, attributes: Mapping[str, int]) -> None:
        """Add a toxic (latency, timeout, ...) to what flows "upstream" or "downstream"."""
        toxic = {"type": kind, "stream": stream, "toxicity": 1.0, "attributes": dict(attributes)}
        self._ask("POST", f"/proxies/{name}/toxics", {"name": f"{kind}-{stream}", **toxic})

    def cut(self, name: str) -> None:
        """Close all connections, and refuse new ones."""
        self._ask("POST", f"/proxies/{name}", {"enabled": False})

    def mend(self) -> None:
        """All proxies pass on everything again, untouched."""
        self._ask("POST", "/reset", None)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> None:
        data = None if body is None else orjson.dumps(body)
        request = urllib.request.Request(self._url + path, data=data, method=method)  # noqa: S310 - our own port
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_S):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            told = error.read().decode(errors="replace").strip()
            raise LoadTestError(f"toxiproxy: {method} {path}: {told}") from None
        except (urllib.error.URLError, ConnectionError) as error:
            raise LoadTestError(f"toxiproxy: {method} {path}: {error}") from None


@contextmanager
def toxiproxy(log: Path, tools: Path = TOOLS) -> Iterator[Toxiproxy]:
    """A server of our own, from the folder `tools`, where Go builds it once; it does not outlive the context."""
    binary, port = _binary(tools), free_port()
    with log.open("wb") as output:
        server = subprocess.Popen([binary, "-port", str(port)], stdout=output, stderr=subprocess.STDOUT)
    try:
        _await(server, port, log)
        yield Toxiproxy(port)
    finally:
        server.terminate()
        try:
            server.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=REQUEST_S):
                return
        except (urllib.error.URLError, ConnectionError):
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise LoadTestError(f"toxiproxy does not answer; see {log}") from None
            time.sleep(PAUSE_S)


def _binary(tools: Path) -> Path:
    binary = tools / "server"
    if binary.exists():
        return binary
    if shutil.which("go") is None:
        raise LoadTestError("go is missing; install Go 1.21 or newer, it builds toxiproxy")
    environment = {**os.environ, "GOBIN": str(tools)}
    built = subprocess.run(["go", "install", PACKAGE], capture_output=True, text=True, check=False, env=environment)
    if built.returncode != 0:
        raise LoadTestError(f"toxiproxy could not be built: {' '.join(built.stderr.split())[-300:]}")
    return binary
