"""A file's rows as messages, read back from a broker."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, TopicPartition
from rich.console import Console

from streamer.errors import DeliveryError, UsageError
from streamer.feed import CATCH_UP_S, Pace, Produced, produce_file
from streamer.transport.embedded import EmbeddedBroker

Message = tuple[bytes | None, bytes | None]


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(brokers=1) as made:
        yield made


@pytest.fixture
def topic(broker: EmbeddedBroker, request: pytest.FixtureRequest) -> str:
    """A new topic for each test."""
    name = f"t{abs(hash(request.node.name))}"
    broker.create_topics([name])
    return name


def messages(broker: EmbeddedBroker, topic: str, count: int) -> list[Message]:
    """The first `count` messages of a topic, by partition and offset."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "reader", "log_level": 0})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    found: list[Any] = []
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        found += consumer.consume(count, 0.2)
    found += consumer.consume(100, 0.2)  # what should not be there
    consumer.close()
    return [(one.key(), one.value()) for one in sorted(found, key=lambda one: (one.partition(), one.offset()))]


def send(broker: EmbeddedBroker | str, path: Path, topic: str, **changed: Any) -> Produced:
    address = broker if isinstance(broker, str) else broker.bootstrap_servers
    wanted: dict[str, Any] = {"key_field": None, "rate": None, "repeat": 1, "limit": None, "properties": {}, **changed}
    return produce_file(
        path=path, topic=topic, bootstrap_servers=address, console=Console(file=io.StringIO(), width=200), **wanted
    )


def test_json_lines_go_byte_for_byte(broker: EmbeddedBroker, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    lines = [b'{"a":  1.00}', b"no JSON at all", b'{"\\u00e4": "\xc3\xa4"}']
    path.write_bytes(b"\n".join(lines) + b"\n\n")
    produced = send(broker, path, topic)
    assert (produced.records, produced.bytes) == (3, sum(map(len, lines)))
    assert sorted(messages(broker, topic, 3), key=str) == sorted([(None, line) for line in lines], key=str)


@pytest.mark.parametrize("name", ["in.csv", "in.parquet", "in.txt"])
def test_rows_of_other_files_go_as_objects(broker: EmbeddedBroker, topic: str, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "in.parquet":
        pq.write_table(pa.Table.from_pylist([{"text": "ä, b"}]), path)
    else:
        path.write_text('text\n"ä, b"\n' if name == "in.csv" else "ä, b\n", encoding="utf-8")
    assert send(broker, path, topic).records == 1
    ((key, value),) = messages(broker, topic, 1)
    assert key is None
    assert orjson.loads(value or b"") == {"text": "ä, b"}


def test_a_field_becomes_the_key_and_keeps_its_records_in_order(
    broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    path = tmp_path / "in.jsonl"
    keys: list[Any] = ["ä", 7, True, 123456789012345678901234567890]
    path.write_text(
        "".join(f'{{"id": {orjson.dumps(k).decode() if k != keys[3] else k}, "n": {n}}}\n'
                for n in range(25) for k in keys), encoding="utf-8"
    )  # fmt: skip
    assert send(broker, path, topic, key_field="id").records == 100
    by_key: dict[bytes | None, list[int]] = {}
    for key, value in messages(broker, topic, 100):
        by_key.setdefault(key, []).append(orjson.loads(value or b"")["n"])
    assert by_key == {key: list(range(25)) for key in ("ä".encode(), b"7", b"true", b"123456789012345678901234567890")}


@pytest.mark.parametrize("line", [b"no JSON", b"[1]", b'{"other": 1}', b'{"id": null}', b'{"id": ["a"]}'])
def test_a_row_without_the_key_is_told_by_its_number(
    broker: EmbeddedBroker, topic: str, tmp_path: Path, line: bytes
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"id": "a"}\n' + line)
    with pytest.raises(UsageError, match=r"in\.jsonl: row 2: .*key"):
        send(broker, path, topic, key_field="id")


@pytest.mark.parametrize(("repeat", "limit", "sent"), [(3, None, 6), (3, 5, 5), (1, 9, 2), (1, 1, 1)])
def test_repeat_and_limit(
    broker: EmbeddedBroker, topic: str, tmp_path: Path, repeat: int, limit: int | None, sent: int
) -> None:
    path = tmp_path / "in.csv"
    path.write_text("text\na\nb\n", encoding="utf-8")
    assert send(broker, path, topic, repeat=repeat, limit=limit).records == sent
    assert len(messages(broker, topic, sent)) == sent


def test_a_missing_topic_is_told_with_the_line_that_makes_it(broker: EmbeddedBroker, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    with pytest.raises(UsageError, match="topic 'nowhere' is missing; create it: kafka-topics.sh .* --topic nowhere"):
        send(broker, path, "nowhere")


def test_a_missing_file_is_told(broker: EmbeddedBroker, topic: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.jsonl: no such file"):
        send(broker, tmp_path / "none.jsonl", topic)


def test_a_broker_out_of_reach_is_told_in_time(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"  # takes connections and never answers
        began = time.monotonic()
        with pytest.raises(UsageError, match=f"cannot reach Kafka at {address}"):
            send(address, path, "t")
    assert time.monotonic() - began < 20


def test_a_record_too_large_for_the_topic_fails(broker: EmbeddedBroker, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n" + b"x" * 1_100_000 + b"\n")
    with pytest.raises(DeliveryError, match=f"topic '{topic}' refuses row 2: "):
        send(broker, path, topic)


class Clock:
    """Time that passes only by sleeping and by `work`."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def test_a_rate_spreads_records_evenly() -> None:
    clock = Clock()
    pace = Pace(rate=50, clock=clock, sleep=clock.sleep)
    for _ in range(101):
        pace.wait()
    assert clock.now_s == pytest.approx(102.0)
    assert max(clock.slept) == pytest.approx(0.02)


def test_a_rate_catches_up_on_small_delays_and_forgets_long_ones() -> None:
    clock = Clock()
    pace = Pace(rate=100, clock=clock, sleep=clock.sleep)
    pace.wait()
    clock.now_s += 30
    began_s = clock.now_s
    passed_at_once = 0
    while clock.now_s == began_s:
        pace.wait()
        passed_at_once += 1
    assert passed_at_once == pytest.approx(CATCH_UP_S * 100, abs=3)


def test_without_a_rate_nothing_waits() -> None:
    clock = Clock()
    pace = Pace(rate=None, clock=clock, sleep=clock.sleep)
    for _ in range(1000):
        pace.wait()
    assert not clock.slept


def test_a_rate_holds_for_a_file(broker: EmbeddedBroker, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n" * 20)
    clock = Clock()
    produced = send(broker, path, topic, rate=2.0, clock=clock, sleep=clock.sleep)
    assert produced.records == 20
    assert produced.wall_s == pytest.approx(9.5)


def test_interrupted_it_says_how_far_it_came(broker: EmbeddedBroker, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n" * 20)
    clock = Clock()

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    said = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        produce_file(
            path=path,
            topic=topic,
            bootstrap_servers=broker.bootstrap_servers,
            properties={},
            key_field=None,
            rate=1.0,
            repeat=1,
            limit=None,
            console=Console(file=said, width=200),
            clock=clock,
            sleep=interrupt,
        )
    assert "acknowledged records" in said.getvalue()


@pytest.mark.kafka
def test_a_missing_topic_on_kafka(kafka_bootstrap_servers: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"{}\n")
    with pytest.raises(UsageError, match="topic 'nowhere' is missing"):
        send(kafka_bootstrap_servers, path, "nowhere")
