"""What the load tests share: a broker, topics that come and go, and filling them.

Enters: names, records. Leaves: an address, names that nobody else uses, and an exit code for the test as a whole.
Everything is bounded in time; only what was started or made here is stopped or removed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from streamer.errors import StreamerError
from streamer.transport.kafka_admin import create_topics

KAFKA_SCRIPT = Path(__file__).parents[1] / "deploy" / "kafka" / "kafka.sh"
REQUEST_S = 30.0


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
def fresh_names(
    bootstrap_servers: str, *, partitions: int, topics: Iterable[str], settings: Mapping[str, str] | None = None
) -> Iterator[dict[str, str]]:
    """Make the topics, with these topic settings, under names nobody else uses: plain name -> real name, and "group"
    -> a consumer group's id. Topics and group are removed when the context ends."""
    run = uuid.uuid4().hex[:8]
    names = {name: f"load-{run}-{name}" for name in topics}
    group = f"load-{run}"
    create_topics(bootstrap_servers, {}, dict.fromkeys(names.values(), partitions), settings or {}, REQUEST_S)
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


def produce(bootstrap_servers: str, topic: str, records: Iterable[tuple[bytes | None, bytes | None]]) -> int:
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
