"""What the load tests share: a broker, topics that come and go, `streamer run` as a process, and reading back.

Enters: settings, records. Leaves: what the process did, seen from outside: its metrics, its memory, its topics.
Everything is bounded in time; only what was started or made here is stopped or removed.
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
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil
import typer
import yaml
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from streamer.encode import DEAD_LETTER_HEADER
from streamer.errors import StreamerError
from streamer.terminal import progress_bar
from streamer.transport.kafka_admin import create_topics

KAFKA_SCRIPT = Path(__file__).parents[1] / "deploy" / "kafka" / "kafka.sh"
REQUEST_S = 30.0
SAMPLE_S = 0.5
STOP_S = 60.0
LEAVE_S = 10.0
LOG_LINES = 20


class LoadTestError(Exception):
    """The test could not be carried out; the message says why."""


def exit_with(test: Callable[[], bool]) -> NoReturn:
    """Run a test and end with 0 when it passed, else with 1; what kept it from running is told in one line."""
    try:
        passed = test()
    except (LoadTestError, StreamerError, KafkaException) as error:
        print(f"error: {error}", file=sys.stderr)
        passed = False
    raise typer.Exit(0 if passed else 1)


@contextmanager
def kafka_broker() -> Iterator[str]:
    """Address of Apache Kafka: KAFKA_BOOTSTRAP_SERVERS, one that runs already, or one started for this test."""
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    running = _kafka_script("status")
    if named or running.returncode == 0:
        yield named or running.stdout.strip()
        return
    started = _kafka_script("up")
    if started.returncode != 0:
        raise LoadTestError(f"no Apache Kafka: {started.stderr.strip()}; or set KAFKA_BOOTSTRAP_SERVERS")
    try:
        yield started.stdout.strip()
    finally:
        _kafka_script("down")


def _kafka_script(verb: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([KAFKA_SCRIPT, verb], capture_output=True, text=True, check=False)


@contextmanager
def fresh_names(bootstrap_servers: str, *, partitions: int, topics: Iterable[str]) -> Iterator[dict[str, str]]:
    """Make the topics under names nobody else uses: plain name -> real name, and "group" -> a consumer group's id.
    Topics and group are removed when the context ends."""
    run = uuid.uuid4().hex[:8]
    names = {name: f"load-{run}-{name}" for name in topics}
    group = f"load-{run}"
    create_topics(bootstrap_servers, {}, dict.fromkeys(names.values(), partitions), {}, REQUEST_S)
    try:
        yield {**names, "group": group}
    finally:
        admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 3})
        pending = [
            *admin.delete_topics(list(names.values()), request_timeout=REQUEST_S).values(),
            *admin.delete_consumer_groups([group], request_timeout=REQUEST_S).values(),
        ]
        for answer in pending:
            error = answer.exception()
            if error is not None and error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                print(f"left behind: {error}", file=sys.stderr)


def produce(bootstrap_servers: str, topic: str, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Send (key, value) pairs; returns how many, all of them acknowledged."""
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "enable.idempotence": True, "linger.ms": 20, "log_level": 3}
    )
    failed: list[object] = []

    def delivered(error: object, _message: Message) -> None:
        if error is not None:
            failed.append(error)

    sent = 0
    for key, value in records:
        while True:
            try:
                producer.produce(topic, value, key, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        sent += 1
    if producer.flush(REQUEST_S) or failed:
        raise LoadTestError(f"topic {topic}: not all records could be sent ({failed[:1]})")
    return sent


def positions(bootstrap_servers: str, topic: str) -> set[str]:
    """Ids of all records of a topic, as events name them."""
    reader = _reader(bootstrap_servers)
    try:
        return {f"{topic}-{part}-{i}" for part, end in _ends(reader, topic).items() for i in range(end)}
    finally:
        reader.close()


def read_all(bootstrap_servers: str, topic: str) -> Iterator[Message]:
    """All that a read_committed reader finds now."""
    reader = _reader(bootstrap_servers)
    try:
        ends = _ends(reader, topic)
        left = [TopicPartition(topic, part, 0) for part, end in ends.items() if end > 0]
        reader.assign(left)
        last_s = time.monotonic()
        while any(at.offset < ends[at.partition] for at in reader.position(left)):
            for message in reader.consume(10_000, 0.2):
                if message.error() is not None:
                    raise LoadTestError(f"topic {topic}: {message.error()}")
                last_s = time.monotonic()
                yield message
            if time.monotonic() - last_s > REQUEST_S:
                raise LoadTestError(f"topic {topic}: nothing to read for {REQUEST_S:g} s, more was expected")
    finally:
        reader.close()


def _reader(bootstrap_servers: str) -> Consumer:
    settings = {
        "bootstrap.servers": bootstrap_servers,
        "group.id": f"load-reader-{uuid.uuid4().hex}",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    }
    return Consumer(settings)


def _ends(reader: Consumer, topic: str) -> dict[int, int]:
    """Partition -> the offset after its last record."""
    parts = reader.list_topics(topic, timeout=REQUEST_S).topics[topic].partitions
    return {part: reader.get_watermark_offsets(TopicPartition(topic, part), REQUEST_S)[1] for part in parts}


def dead_letter_id(message: Message) -> str:
    """The id of the input record that a dead letter repeats."""
    headers = dict(message.headers() or [])
    parts = (headers[DEAD_LETTER_HEADER + name] for name in ("topic", "partition", "offset"))
    return "-".join(part.decode() for part in parts if isinstance(part, bytes))


@dataclass(frozen=True, slots=True)
class Balance:
    """Inputs against what came of them. `lost`: inputs without any; `duplicates`: outputs and dead letters beyond
    the first of their input; `unknown`: ids that no input has."""

    records: int
    outputs: int
    dead_letters: int
    duplicates: int
    lost: int
    unknown: int


def balance(inputs: set[str], outputs: Iterable[str], dead_letters: Iterable[str]) -> Balance:
    """Account for every record by its id."""
    labelled, dead = Counter(outputs), Counter(dead_letters)
    seen = labelled + dead
    return Balance(
        records=len(inputs),
        outputs=labelled.total(),
        dead_letters=dead.total(),
        duplicates=seen.total() - len(seen),
        lost=len(inputs - seen.keys()),
        unknown=len(seen.keys() - inputs),
    )


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
        self._memory = psutil.Process(process.pid)

    def wait_ready(self, timeout_s: float) -> None:
        """Return when the model is warm and partitions are assigned."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                with urllib.request.urlopen(f"{self._url}/readyz", timeout=REQUEST_S):  # noqa: S310 - our own port
                    return
            except (urllib.error.URLError, ConnectionError):
                self._still_there(deadline_s, "was not ready")
                time.sleep(0.1)

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
        return float(self._memory.memory_info().rss / 2**20)

    def metrics(self) -> Counter[str]:
        """A scrape: each metric's sum over its labels."""
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=REQUEST_S) as answer:  # noqa: S310 - our own port
            families = text_string_to_metric_families(answer.read().decode())
            totals: Counter[str] = Counter()
            for sample in (sample for family in families for sample in family.samples):
                totals[sample.name] += sample.value  # type: ignore[assignment]
            return totals

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

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])


@contextmanager
def streamer_run(settings: Mapping[str, Any]) -> Iterator[StreamerRun]:
    """Start `streamer run` with these settings, metrics on a free port; it does not outlive the context."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        config, log = Path(name) / "streamer.yaml", Path(name) / "streamer.log"
        whole = {**settings, "http": {"port": port}, "log": {"format": "json"}}
        config.write_text(yaml.safe_dump(whole), encoding="utf-8")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("STREAMER_")}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "streamer", "run", "-c", str(config)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        try:
            yield StreamerRun(process, port, log)
        finally:
            process.terminate()  # does nothing to a process that has ended
            try:
                process.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
