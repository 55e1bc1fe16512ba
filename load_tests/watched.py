"""A streamer at work on the demo's records, watched by a real Prometheus: what dashboard and alerts are tried on.

Enters: the Prometheus server's program, how often to look, a model, how many records a second. Leaves: answers of
Prometheus. It is `streamer run` in this process on an embedded broker, with a shadow, a baseline of drift, routes and
abstention, so that every metric is exported.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from itertools import cycle
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Producer

from load_tests.harness import LoadTestError
from load_tests.process import free_port
from streamer.app import connect
from streamer.demo.records import demo_records
from streamer.drift.baseline import baseline_json
from streamer.drift.report import Aspect, StreamCounts
from streamer.serving import serve
from streamer.settings import Settings, build_settings

ALERTS = Path(__file__).parents[1] / "deploy" / "helm" / "streamer" / "files" / "alerts.yaml"
START_S = 100.0
TICK_S = 0.1
REQUEST_S = 30.0
REPEATED = 3  # one record in so many has a text seen before
TEXT = re.compile(rb'"(body|text)":\s*"')

RateAt = Callable[[float], float]


class Prometheus:
    """The HTTP API of a server."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **parameters: str | float) -> Any:
        """The `data` of an answer. Raises LoadTestError with what Prometheus says of a query that it does not take."""
        try:
            address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
            with urllib.request.urlopen(address, timeout=REQUEST_S) as answer:  # noqa: S310 - our own server
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            raise LoadTestError(f"{parameters}: {refused.read().decode()}") from None

    def instant(self, query: str) -> list[dict[str, Any]]:
        """Series with one value each, now."""
        found: list[dict[str, Any]] = self.ask("query", query=query)["result"]
        return found

    def over_time(self, query: str, *, from_s: float, to_s: float, step_s: float) -> list[dict[str, Any]]:
        """Series with values at every step, between two Unix times."""
        found = self.ask("query_range", query=query, start=from_s, end=to_s, step=step_s)
        result: list[dict[str, Any]] = found["result"]
        return result


@contextmanager
def watched(directory: Path, *, program: str, scrape_s: int, model: str, rate_at: RateAt) -> Iterator[Prometheus]:
    """A streamer and a Prometheus with the alerts loaded, both at work until the context ends. `rate_at` gives records
    a second at a number of seconds since the start. Files lie in `directory`."""
    port = free_port()
    with ExitStack() as running:
        prometheus = running.enter_context(_server(directory, program, scrape_s=scrape_s, watch_port=port))
        running.enter_context(_streamer(_settings(directory, port, model), rate_at))
        _wait_for(lambda: bool(prometheus.instant("streamer_up == 1")), "the streamer")
        yield prometheus


@contextmanager
def _server(directory: Path, program: str, *, scrape_s: int, watch_port: int) -> Iterator[Prometheus]:
    port = free_port()
    config = directory / "prometheus.yaml"
    every = f"{scrape_s}s"
    streamer = {"job_name": "streamer", "static_configs": [{"targets": [f"127.0.0.1:{watch_port}"]}]}
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
                "rule_files": [str(ALERTS)],
                "scrape_configs": [streamer],
            }
        )
    )
    log = directory / "prometheus.log"
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=lines,
            stderr=lines,
        )
    try:
        prometheus = Prometheus(port)
        _wait_for(lambda: _ready(prometheus, process, log), "Prometheus")
        yield prometheus
    finally:
        process.terminate()
        process.wait(START_S)


def _ready(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        raise LoadTestError(f"Prometheus ended: {log.read_text()[-500:]}")
    try:
        with urllib.request.urlopen(f"{prometheus.url}/-/ready", timeout=REQUEST_S) as answer:  # noqa: S310 - ours
            return bool(answer.status == 200)
    except OSError:  # nobody listens yet, or the answer is 503
        return False


@contextmanager
def _streamer(settings: Settings, rate_at: RateAt) -> Iterator[None]:
    stop = threading.Event()
    failed: list[Exception] = []

    def run() -> None:
        try:
            serve(settings, connection=connection, stop=stop, observers=[], settings_path=None)
        except Exception as error:
            failed.append(error)

    with connect(settings) as connection:
        threads = [
            threading.Thread(target=run, name="watched"),
            threading.Thread(target=_feed, args=(connection.bootstrap_servers, rate_at, stop), name="feed"),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(START_S)
    if failed:
        raise failed[0]


def _feed(servers: str, rate_at: RateAt, stop: threading.Event) -> None:
    """The demo's records again and again, most of them with a text of their own."""
    producer = Producer({"bootstrap.servers": servers, "log_level": 3})
    records = cycle(demo_records())
    began_s = time.monotonic()
    due, number = 0.0, 0
    while not stop.wait(TICK_S):
        due += rate_at(time.monotonic() - began_s) * TICK_S
        while number < due:
            number += 1
            record = next(records)
            value = record.value
            if value is not None and number % REPEATED:
                value = TEXT.sub(rb"\g<0>%d " % number, value)
            producer.produce(record.topic, value, record.key)
        producer.poll(0)
    producer.flush(REQUEST_S)
    producer.close()


def _settings(directory: Path, port: int, model: str) -> Settings:
    """Those of the demo, and all else that has metrics."""
    content = yaml.safe_load((files("streamer.demo") / "demo.yaml").read_text(encoding="utf-8"))
    tickets = content["label_sets"]["tickets"]
    tickets["facets"]["topic"]["min_margin"] = 0.1
    tickets["routes"] = [
        {"when": {"facet": "topic", "abstained": True}, "to": "demo.tickets.review"},
        {"when": {"facet": "topic", "label": "billing", "score": 0.5}, "to": "demo.tickets.billing"},
    ]
    worded = {"kind": "single", "labels": {"negative": "angry", "neutral": "facts", "positive": "glad"}}
    content["label_sets"]["next"] = {"facets": {"sentiment": worded}}
    content["model"] = {"name": model, "device": "cpu"}
    content["http"] = {"port": port}
    content["log"] = {"level": "error"}
    content["shadow"] = {
        "streams": {"demo.tickets": {"label_set": "next", "share": 1.0, "topic": "demo.tickets.shadow"}},
        "max_waiting_records": 16,  # so few that some are dropped
    }
    baseline = directory / "baseline.json"
    baseline.write_bytes(_baseline(build_settings(content, origin="watched")))
    content["drift"] = {"baseline": str(baseline), "sample_every": 1, "window_records": 1000}
    return build_settings(content, origin="watched")


def _baseline(settings: Settings) -> bytes:
    """As if every label had been given as often as the others. That of the posts is of another version."""
    label_sets = settings.build_label_sets()
    streams = {}
    for stream in settings.streams:
        label_set = label_sets[stream.label_set]
        counts: dict[Aspect, dict[str, float]] = {("language", ""): {"en": 1000.0}}
        for facet in label_set.facets:
            counts["labels", facet.name] = {label.name: 1.0 for label in facet.labels}
            counts["abstained", facet.name] = {"no": 9.0, "yes": 1.0}
        version = label_set.version if stream.topic == "demo.tickets" else "0" * 16
        streams[stream.topic] = StreamCounts(label_set.name, version, 1000.0, counts)
    return baseline_json(streams)


def _wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + START_S
    while not holds():
        if time.monotonic() > deadline_s:
            raise LoadTestError(f"{what} is not ready after {START_S:g} s")
        time.sleep(TICK_S)
