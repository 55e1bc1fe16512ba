"""A running process that holds every kind of secret: they are looked for wherever others could read them.

`tests/kafka/test_secure.py` does the same on a broker with TLS and logins, `test_secret_errors.py` where something is
wrong.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from confluent_kafka import Consumer, Producer

from tests.security.planted import SECRET, assert_absent

WAIT_S = 60.0
PAUSE_S = 0.05
NOT_YAML, RESTART_NEEDED = "not YAML", "restart needed"


@dataclass
class Planted:
    """`streamer run` with secrets in its environment and files, told to say all it can."""

    process: subprocess.Popen[str]
    settings: Path
    port: int
    planted: dict[str, str]
    log: Path
    seen: dict[str, str] = field(default_factory=dict)

    def await_log(self, words: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while words not in self.log.read_text(encoding="utf-8"):
            assert time.monotonic() < deadline, words
            time.sleep(PAUSE_S)

    def ask(self, path: str, **headers: str) -> str:
        """Status, headers and the beginning of the body; an answer without end is cut."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read1(1 << 20) if "event-stream" in answer.headers["content-type"] else answer.read()
        connection.close()
        return f"{answer.status}\n{answer.headers}\n{body.decode()}"


def content(folder: Path, port: int) -> dict[str, Any]:
    return {
        "kafka": {
            "bootstrap_servers": "embedded",
            "group_protocol": "consumer",
            "properties": {
                "debug": "all",
                "sasl.password": {"env": "PLANTED_PASSWORD"},
                "ssl.key.password": {"file": str(folder / "key-password")},
                "sasl.oauthbearer.client.secret": {"file": str(folder / "client-secret")},
            },
        },
        "model": {"name": "fake"},
        "http": {"port": port},
        "page": {"token": {"env": "PLANTED_TOKEN"}, "show_text": True},
        "tracing": {
            "enabled": True,
            "endpoint": "http://127.0.0.1:9/v1/traces",
            "headers": {"authorization": {"env": "PLANTED_HEADER"}},
            "sample_ratio": 1.0,
        },
        "log": {"level": "debug"},
        "reload": {"interval_s": 0.1},
        "label_sets": {"l": {"facets": {"f": {"labels": ["a", "b"]}}}},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "l", "pass_payload": True}],
    }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, free_port: int) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    planted = {name: f"{SECRET}{name}" for name in ("password", "token", "header", "keypassword", "clientsecret")}
    (folder / "key-password").write_text(planted["keypassword"] + "\n", encoding="utf-8")
    (folder / "client-secret").write_text(planted["clientsecret"], encoding="utf-8")
    settings = folder / "streamer.yaml"
    settings.write_text(yaml.safe_dump(content(folder, free_port)), encoding="utf-8")
    names = {f"PLANTED_{name.upper()}": planted[name] for name in ("password", "token", "header")}
    log = folder / "log"
    with log.open("w", encoding="utf-8") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamer", "run", "-c", settings],
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            env={**os.environ, **names, "HF_TOKEN": SECRET, "OMP_NUM_THREADS": "1"},
        )
        try:
            one = Planted(process, settings, free_port, planted, log)
            one.seen |= exercised(one)
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    one.seen |= {"standard output": out, "log": log.read_text(encoding="utf-8")}
    return one


@pytest.fixture(scope="module")
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def exercised(one: Planted) -> dict[str, str]:
    """Whatever a running process shows to others, after good and bad records and bad settings."""
    assert one.process.stdout is not None
    bootstrap = one.process.stdout.readline().split()[-1]
    seen = {"records": written(bootstrap)}
    bearer = {"Authorization": f"Bearer {one.planted['token']}"}
    for path in ("/", "/metrics", "/healthz", "/readyz", "/drift", "/page/events", "/nothing"):
        seen[path] = one.ask(path)
        seen[f"{path} by a browser"] = one.ask(path, Accept="text/html", **bearer)
    seen["wrong token"] = one.ask(f"/?token={one.planted['token'][:-1]}", Accept="text/html")
    good = one.settings.read_text(encoding="utf-8")
    for old, new, told in (("facets:", f"facets: *{SECRET}", NOT_YAML), ("debug: all", f"b: {SECRET}", RESTART_NEEDED)):
        one.settings.write_text(good.replace(old, new), encoding="utf-8")
        one.await_log(told)
        seen[f"metrics after {told}"] = one.ask("/metrics")
        seen[f"page after {told}"] = one.ask("/page/events", **bearer)
    me = psutil.Process(one.process.pid)
    seen["process list"] = "\n".join(" ".join(each.cmdline()) for each in (me, *me.children(recursive=True)))
    return seen


def written(bootstrap: str) -> str:
    """Good and bad records in; all that is written for them, headers and keys included."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in (b'{"text": "fine"}', b"no json", b'{"text": 1}', None):
        producer.produce("in", value=value, key=b"k")
    producer.flush(WAIT_S)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "auto.offset.reset": "earliest",
                         "group.protocol": "consumer"})  # fmt: skip
    consumer.subscribe(["out", "dead"])
    texts: list[str] = []
    deadline = time.monotonic() + WAIT_S
    while len(texts) < 4 and time.monotonic() < deadline:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            texts.append(f"{message.key()!r} {message.value()!r} {message.headers()!r}")
    consumer.close()
    assert len(texts) == 4, texts
    return "\n".join(texts)


def test_a_running_process_tells_no_secret_to_anybody(running: Planted) -> None:
    assert running.process.returncode == 0, running.seen["log"][-3000:]
    for secret in running.planted.values():
        assert_absent(secret, running.seen)
    assert_absent(SECRET, running.seen)


def test_what_was_looked_at_is_there(running: Planted) -> None:
    """An empty text holds no secret either."""
    assert '"event": "kafka client"' in running.seen["log"] or '"event":"kafka client"' in running.seen["log"]
    assert NOT_YAML in running.seen["log"]
    assert RESTART_NEEDED in running.seen["log"]
    assert "streamer_records_consumed_total" in running.seen["/metrics"]
    assert "not_json" in running.seen["records"]
    assert running.seen["/page/events"].startswith("401")
    assert running.seen["/page/events by a browser"].startswith("200")
    assert "data:" in running.seen["/page/events by a browser"]
    assert running.seen["wrong token"].startswith("401")
