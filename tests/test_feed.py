"""A file's rows as messages, read back from a broker."""

from __future__ import annotations

import io
import socket
import time
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest
from rich.console import Console

from streamer.errors import DeliveryError, UsageError
from streamer.feed import CATCH_UP_S, Pace, Produced, parse_properties, produce_file
from streamer.transport.embedded import EmbeddedBroker

Broker: TypeAlias = Any  # a RoadBroker of conftest.py


@pytest.fixture
def topic(broker: Broker, unique: str) -> str:
    """A new topic for each test."""
    made: str = broker.create_topic(unique)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.jsonl"


def read(broker: Broker, topic: str) -> list[tuple[bytes | None, bytes]]:
    """Keys and values of a topic, in order within a partition."""
    return [(message.key(), message.value()) for message in broker.read_all(topic)]


def send(broker: Broker, path: Path, topic: str, **changed: Any) -> Produced:
    # the embedded broker leaves one question unanswered, so this time passes whole
    return send_to(broker.bootstrap_servers, path, topic, reach_timeout_s=1.0 if broker.embedded else 10.0, **changed)


def send_to(bootstrap_servers: str, path: Path, topic: str, **changed: Any) -> Produced:
    wanted: dict[str, Any] = {
        "properties": {},
        "key_field": None,
        "rate": None,
        "repeat": 1,
        "limit": None,
        "reach_timeout_s": 1.0,
        "console": Console(file=io.StringIO()),
        **changed,
    }
    return produce_file(path=path, topic=topic, bootstrap_servers=bootstrap_servers, **wanted)


def test_json_lines_go_byte_for_byte(broker: Broker, topic: str, path: Path) -> None:
    lines = [b'{"a":  1.00}', b"no JSON at all", b'{"\\u00e4": "\xc3\xa4"}']
    path.write_bytes(b"\n".join(lines) + b"\n\n")
    produced = send(broker, path, topic)
    assert (produced.records, produced.bytes) == (3, sum(map(len, lines)))
    assert sorted(read(broker, topic), key=str) == sorted([(None, line) for line in lines], key=str)


def test_rows_of_other_files_go_as_objects(broker: Broker, topic: str, path: Path) -> None:
    path = path.with_suffix(".csv")
    path.write_text('text,n\n"ä, b",1\n', encoding="utf-8")
    assert send(broker, path, topic).records == 1
    ((key, value),) = read(broker, topic)
    assert key is None
    assert orjson.loads(value) == {"text": "ä, b", "n": "1"}


def test_a_field_becomes_the_key_and_keeps_its_records_in_order(broker: Broker, topic: str, path: Path) -> None:
    keys = ['"ä"', "7", "true", "123456789012345678901234567890"]  # as JSON writes them
    lines = [f'{{"id": {key}, "n": {n}}}\n' for n in range(25) for key in keys]
    path.write_text("".join(lines), encoding="utf-8")
    assert send(broker, path, topic, key_field="id").records == 100
    by_key: dict[bytes | None, list[int]] = {}
    for key, value in read(broker, topic):
        by_key.setdefault(key, []).append(orjson.loads(value)["n"])
    assert by_key == {key.strip('"').encode(): list(range(25)) for key in keys}


@pytest.mark.parametrize("line", [b"no JSON", b"[1]", b'{"id": ["a"]}'])
def test_a_row_without_the_key_is_told_by_its_number(broker: Broker, topic: str, path: Path, line: bytes) -> None:
    path.write_bytes(b'{"id": "a"}\n' + line)
    with pytest.raises(UsageError, match=r"in\.jsonl: row 2: .*key"):
        send(broker, path, topic, key_field="id")


@pytest.mark.parametrize(("repeat", "limit", "sent"), [(3, None, 6), (3, 5, 5), (1, 9, 2)])
def test_repeat_and_limit(broker: Broker, topic: str, path: Path, repeat: int, limit: int | None, sent: int) -> None:
    path = path.with_suffix(".csv")
    path.write_text("text\na\nb\n", encoding="utf-8")
    assert send(broker, path, topic, repeat=repeat, limit=limit).records == sent
    assert len(read(broker, topic)) == sent


def test_a_missing_topic_is_told_with_the_line_that_makes_it(broker: Broker, path: Path) -> None:
    path.write_bytes(b"{}\n")
    with pytest.raises(UsageError, match=r"topic 'nowhere' is missing; create it: kafka-topics\.sh .* --topic nowhere"):
        send(broker, path, "nowhere")


def test_a_missing_file_is_told_before_the_broker_is_asked(path: Path) -> None:
    with pytest.raises(UsageError, match=r"in\.jsonl: no such file"):
        send_to("nowhere.invalid:9092", path, "t")


def test_a_broker_out_of_reach_is_told_in_time(path: Path) -> None:
    path.write_bytes(b"{}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"  # takes connections and never answers
        began = time.monotonic()
        with pytest.raises(UsageError, match=f"cannot reach Kafka at {address}"):
            send_to(address, path, "t")
    assert time.monotonic() - began < 10


def test_a_record_too_large_for_the_topic_fails(broker: Broker, topic: str, path: Path) -> None:
    path.write_bytes(b"{}\n" + b"x" * 1_100_000 + b"\n")
    with pytest.raises(DeliveryError, match=f"topic '{topic}' refuses row 2: "):
        send(broker, path, topic)


def test_a_broker_that_goes_away_fails_the_rest(path: Path, unique: str) -> None:
    path.write_bytes(b"{}\n" * 20)
    own = EmbeddedBroker(brokers=1)
    own.create_topics([unique])
    with pytest.raises(DeliveryError, match=f"topic '{unique}': a message could not be delivered"):
        send_to(
            own.bootstrap_servers,
            path,
            unique,
            properties={"message.timeout.ms": 500},
            rate=1.0,
            sleep=lambda _seconds: own.close(),
        )


class Clock:
    """Time that passes only by sleeping."""

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


def test_a_rate_holds_for_a_file(broker: Broker, topic: str, path: Path) -> None:
    path.write_bytes(b"{}\n" * 20)
    clock = Clock()
    produced = send(broker, path, topic, rate=2.0, clock=clock, sleep=clock.sleep)
    assert produced.records == 20
    assert produced.wall_s == pytest.approx(9.5)


def test_interrupted_it_says_how_far_it_came(broker: Broker, topic: str, path: Path) -> None:
    path.write_bytes(b"{}\n" * 20)
    clock = Clock()

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    said = io.StringIO()
    console = Console(file=said, width=200)
    with pytest.raises(KeyboardInterrupt):
        send(broker, path, topic, rate=1.0, clock=clock, sleep=interrupt, console=console)
    assert "acknowledged records" in said.getvalue()


def test_properties_of_the_command_line() -> None:
    assert parse_properties(["a.b=c=d", "e="]) == {"a.b": "c=d", "e": ""}
    for wrong in ("a.b", "=c"):
        with pytest.raises(UsageError, match="write name=value"):
            parse_properties([wrong])


def test_secrets_come_from_files_alone(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    assert parse_properties([f"sasl.password=@{secret}", "client.id=x"]) == {
        "sasl.password": "s3cret",
        "client.id": "x",
    }
    for flag in ("sasl.password=s3cret", f"sasl.password=@{tmp_path}/none"):
        with pytest.raises(UsageError) as refused:
            parse_properties([flag])
        assert "s3cret" not in str(refused.value)
        assert "\n" not in str(refused.value)
