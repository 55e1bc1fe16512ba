"""`streamer run` as a process, looked at from outside: its health, its metrics, its memory, how it ends.

Enters: settings. Leaves: samples, an exit code. No process outlives its context.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample as Series
from rich.console import Console

from load_tests.harness import REQUEST_S, LoadTestError
from streamer.terminal import progress_bar

SAMPLE_S = 0.5
ASK_S = 0.02
STOP_S = 60.0
LEAVE_S = 10.0
LOG_LINES = 20
STREAMER_RUN = ("streamer", "run")


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at one moment: seconds since it was ready, records ended (output or dead letter acknowledged)."""

    at_s: float
    ended: int
    rss_mb: float


class StreamerRun:
    """A running `streamer run`, looked at from outside."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process = process
        self._url = f"http://127.0.0.1:{port}"
        self._log = log
        self._seen = psutil.Process(process.pid)

    def wait_ready(self, timeout_s: float) -> None:
        """Return when the model is warm and partitions are assigned."""
        self._wait_for("readyz", timeout_s, "was not ready")

    def wait_alive(self, timeout_s: float) -> None:
        """Return when it can be scraped; the model may not be loaded yet."""
        self._wait_for("healthz", timeout_s, "did not answer")

    def _wait_for(self, path: str, timeout_s: float, otherwise: str) -> None:
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                with urllib.request.urlopen(f"{self._url}/{path}", timeout=REQUEST_S):  # noqa: S310 - our own port
                    return
            except (urllib.error.URLError, ConnectionError):
                self._still_there(deadline_s, otherwise)
                time.sleep(ASK_S)

    def until_ended(self, records: int, timeout_s: float, console: Console) -> list[Sample]:
        """Sample twice a second, and show progress, until so many records have ended."""
        began_s = time.monotonic()
        samples = [Sample(0.0, 0, self._rss_mb())]
        with progress_bar(console, "labelled", records) as advance:
            while samples[-1].ended < records:
                figures = self.metrics()
                ended = figures["streamer_records_published_total"] + figures["streamer_records_dead_lettered_total"]
                advance(int(ended) - samples[-1].ended)
                samples.append(Sample(time.monotonic() - began_s, int(ended), self._rss_mb()))
                self._still_there(began_s + timeout_s, f"had not ended {records:,} records but {int(ended):,}")
                time.sleep(SAMPLE_S)
        return samples

    def _rss_mb(self) -> float:
        return float(self._seen.memory_info().rss / 2**20)

    def cpu_s(self) -> float:
        """What it has computed so far, in user and system mode."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def metrics(self) -> Counter[str]:
        """A scrape: each metric's sum over its labels."""
        totals: Counter[str] = Counter()
        for series in self.series():
            totals[series.name] += series.value  # type: ignore[assignment]
        return totals

    def series(self) -> list[Series]:
        """A scrape: every series with its name, labels and value. Raises LoadTestError when the process has ended."""
        try:
            with urllib.request.urlopen(f"{self._url}/metrics", timeout=REQUEST_S) as answer:  # noqa: S310 - our own port
                families = text_string_to_metric_families(answer.read().decode())
        except (urllib.error.URLError, ConnectionError) as error:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(LEAVE_S)  # its port closes before it ends
            self._still_there(time.monotonic() + REQUEST_S, "")
            raise LoadTestError(f"streamer does not answer a scrape: {error}") from None
        return [one for family in families for one in family.samples]

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise LoadTestError(f"streamer did not end within {STOP_S:g} s of SIGTERM:\n{self._tail()}") from None

    def _still_there(self, deadline_s: float, what: str) -> None:
        if self._process.poll() is not None:
            raise LoadTestError(f"streamer ended with exit code {self._process.returncode}:\n{self._tail()}")
        if time.monotonic() > deadline_s:
            raise LoadTestError(f"streamer {what} in time:\n{self._tail()}")

    def log_lines(self) -> list[str]:
        """What it has written so far."""
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()

    def _tail(self) -> str:
        return "\n".join(self.log_lines()[-LOG_LINES:])


def spawn(
    settings: Mapping[str, Any],
    folder: Path,
    name: str,
    *,
    program: Sequence[str] = STREAMER_RUN,
    interpreter: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Start `streamer run` with these settings; they stand in NAME.yaml of the folder, and its log in NAME.log.

    `program`: a module that does as `streamer run` does, and its first arguments; `interpreter`: Python's own."""
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump({**settings, "log": {"format": "json"}}), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STREAMER_")}
    with (folder / f"{name}.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, *interpreter, "-m", *program, "-c", str(config)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def streamer_run(
    settings: Mapping[str, Any], *, program: Sequence[str] = STREAMER_RUN, interpreter: Sequence[str] = ()
) -> Iterator[StreamerRun]:
    """Start `streamer run` with these settings, metrics on a free port; it does not outlive the context.

    For `program` and `interpreter` see `spawn`."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        process = spawn(
            {**settings, "http": {"port": port}}, Path(name), "streamer", program=program, interpreter=interpreter
        )
        try:
            yield StreamerRun(process, port, Path(name) / "streamer.log")
        finally:
            process.terminate()  # does nothing to a process that has ended
            try:
                process.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
