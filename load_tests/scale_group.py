"""A consumer group of `streamer run` processes that come and go, and an open loop of records for it.

Enters: an address, topic names, a protocol. Leaves: processes that join, leave and are killed, exit codes, records sent
evenly over all partitions. No process outlives its context. Must not know: what is measured.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from threading import Event, Thread
from typing import Any

import orjson
from confluent_kafka import Producer
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from load_tests.harness import REQUEST_S, LoadTestError
from load_tests.process import STOP_S, StreamerRun, free_port, spawn
from streamer.bench.texts import bench_texts

PARTITIONS = 12
READY_S = 90.0
RESTART_S = 1.0
LOOK_S = 0.1
LAG_S = 1.0  # members ask for it so often
LOOKS = 3  # one of them may be old
BURST_S = 0.01
TEXTS = 500


@dataclass(frozen=True, slots=True)
class Terms:
    """What all processes of a run have in common. `protocol`: classic or consumer; `names`: "in", "out", "dead" and
    "group" -> real names; `static`: members keep their partitions while they are away for less than the session; they
    learn of a rebalance by a heartbeat."""

    bootstrap_servers: str
    names: Mapping[str, str]
    protocol: str
    delivery: str
    static: bool
    session_s: float
    heartbeat_s: float
    service_ms: float
    window_records: int

    def settings(self, place: str, port: int) -> dict[str, Any]:
        """Settings of the process in this place: what is not said here is as in production."""
        kafka: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "group_id": self.names["group"],
            "group_protocol": self.protocol,
        }
        if self.static:
            kafka["group_instance_id"] = place
        if self.delivery == "exactly_once":
            kafka["transactional_id"] = f"{self.names['group']}-{place}"
        if self.protocol == "classic":  # the broker decides for the other one
            kafka["properties"] = {f"{name}.ms": value_ms for name, value_ms in self._times_ms().items()}
        return {
            "kafka": kafka,
            "delivery": self.delivery,
            "model": {"name": "fake", "service_time_ms": self.service_ms},
            "batching": {"max_records": self.window_records},
            "http": {"port": port},
            "label_sets": {"small": {"facets": {"sentiment": {"labels": ["negative", "neutral", "positive"]}}}},
            "streams": [
                {
                    "topic": self.names["in"],
                    "output": self.names["out"],
                    "dead_letter": self.names["dead"],
                    "label_set": "small",
                }
            ],
        }

    def _times_ms(self) -> dict[str, int]:
        return {"session.timeout": int(self.session_s * 1000), "heartbeat.interval": int(self.heartbeat_s * 1000)}

    def set_up(self) -> None:
        """Tell the broker the times of the group, where they are the broker's to know."""
        if self.protocol == "classic":
            return
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        try:
            times = {f"consumer.{name}.ms": str(value_ms) for name, value_ms in self._times_ms().items()}
            admin.alter_configs([ConfigResource(ConfigResourceType.GROUP, self.names["group"], times)])
        finally:
            admin.close()


class Group:
    """Processes by place. `exit_codes` are those of processes that got SIGTERM; `restarts` counts processes that ended
    by themselves and were started again, as an orchestrator would."""

    def __init__(self, terms: Terms, folder: Path) -> None:
        self.exit_codes: list[int] = []
        self.restarts = 0
        self._terms = terms
        self._folder = folder
        self._members: dict[str, tuple[subprocess.Popen[bytes], StreamerRun]] = {}
        self._started = 0

    def __len__(self) -> int:
        return len(self._members)

    def start(self, place: str | None = None) -> str:
        """Start a process, in a new place unless told; returns the place."""
        self._started += 1
        place = place or f"place-{self._started}"
        port = free_port()
        name = f"{place}-{self._started}"
        process = spawn(self._terms.settings(place, port), self._folder, name)
        self._members[place] = (process, StreamerRun(process, port, self._folder / f"{name}.log"))
        return place

    def oldest(self) -> str:
        """The place that has been taken for longest."""
        return next(iter(self._members))

    def terminate(self, place: str) -> None:
        """SIGTERM, and wait for the end."""
        self.exit_codes.append(self._members.pop(place)[1].terminate())

    def kill(self, place: str) -> None:
        """SIGKILL."""
        process, _ = self._members.pop(place)
        process.kill()
        process.wait()

    def wait_settled(self) -> None:
        """Return when the partitions are spread evenly over all processes."""
        deadline_s = time.monotonic() + READY_S
        even = PARTITIONS // len(self._members)
        while True:
            for place in list(self._members):
                self._wait_ready(place, deadline_s)
            held = [self._held(member) for _, member in self._members.values()]
            if sum(held) == PARTITIONS and min(held) >= even:
                return
            if time.monotonic() > deadline_s:
                raise LoadTestError(f"partitions are not spread evenly after {READY_S:g} s: {held}")
            time.sleep(LOOK_S)

    def _wait_ready(self, place: str, deadline_s: float) -> None:
        while True:
            process, member = self._members[place]
            try:
                member.wait_ready(deadline_s - time.monotonic())
                return
            except LoadTestError:
                if process.poll() is None or time.monotonic() > deadline_s:
                    raise
            self.restarts += 1
            time.sleep(RESTART_S)
            self.start(place)

    def wait_caught_up(self, most_lag: float, timeout_s: float) -> bool:
        """Return when no more than this is still to be read; False when that takes too long."""
        deadline_s = time.monotonic() + timeout_s
        few = 0
        while few < LOOKS:
            lag = sum(member.metrics()["streamer_lag_records"] for _, member in self._members.values())
            few = few + 1 if lag <= most_lag else 0
            if time.monotonic() > deadline_s:
                return False
            time.sleep(LAG_S)
        return True

    def stop_all(self) -> None:
        """SIGTERM to all at once, and wait for them."""
        for process, _ in self._members.values():
            process.send_signal(signal.SIGTERM)
        for place in list(self._members):
            process, _ = self._members.pop(place)
            self.exit_codes.append(process.wait(STOP_S))

    def kill_all(self) -> None:
        """Leave nothing behind."""
        for place in list(self._members):
            self.kill(place)

    @staticmethod
    def _held(member: StreamerRun) -> int:
        return sum(one.name == "streamer_lag_records" for one in member.series())


@contextmanager
def group(terms: Terms, folder: Path) -> Iterator[Group]:
    """An empty group; none of its processes outlives the context."""
    terms.set_up()
    members = Group(terms, folder)
    try:
        yield members
    finally:
        members.kill_all()


class Sender:
    """Sends records evenly over all partitions of a topic."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self.sent = 0
        self._failed: list[object] = []
        self._topic = topic
        self._values = cycle([orjson.dumps({"text": text}) for text in bench_texts(TEXTS, seed=1)])
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "enable.idempotence": True, "linger.ms": 5, "log_level": 3}
        )

    def send(self, count: int) -> None:
        for _ in range(count):
            while True:
                try:
                    self._producer.produce(
                        self._topic,
                        next(self._values),
                        b"key-%d" % (self.sent % 1000),
                        partition=self.sent % PARTITIONS,
                        on_delivery=self._delivered,
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self.sent += 1
            self._producer.poll(0)

    def finish(self) -> None:
        """Raises LoadTestError unless all were acknowledged."""
        if self._producer.flush(REQUEST_S) or self._failed:
            raise LoadTestError(f"topic {self._topic}: not all records could be sent ({self._failed[:1]})")

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._failed.append(error)


@contextmanager
def offering(bootstrap_servers: str, topic: str, per_s: float) -> Iterator[Callable[[], int]]:
    """Send so many records a second, whatever comes back, while the context lasts; yields what tells how many so
    far."""
    sender, stop = Sender(bootstrap_servers, topic), Event()
    began_s = time.monotonic()

    def work() -> None:
        while not stop.wait(BURST_S):
            sender.send(int((time.monotonic() - began_s) * per_s) - sender.sent)

    thread = Thread(target=work, name="open loop", daemon=True)
    thread.start()
    try:
        yield lambda: sender.sent
    finally:
        stop.set()
        thread.join(REQUEST_S)
    sender.finish()
