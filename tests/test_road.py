"""`streamer run` as users start it, on the embedded broker and on Apache Kafka: a process, signals, real clients."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import jsonschema
import orjson
import pytest
import yaml
from confluent_kafka import Consumer

from streamer.encode import DEAD_LETTER_HEADER
from streamer.records import Outbound

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

SCHEMAS = Path(__file__).parents[1] / "schemas"
EVENT = jsonschema.Draft202012Validator(orjson.loads((SCHEMAS / "labelled-event.schema.json").read_bytes()))
DEAD_LETTER = jsonschema.Draft202012Validator(orjson.loads((SCHEMAS / "dead-letter-headers.schema.json").read_bytes()))
START_S = 60  # a busy machine loads torch slowly
TEXTS = [f"the parcel {i} is late" if i % 2 else f"thank you for number {i}" for i in range(200)]
BAD: dict[str, bytes | None] = {
    "not_json": b"<xml/>",
    "null_value": None,
    "no_text": b'{"id": 1}',
    "text_not_string": b'{"text": 3}',
    "value_too_large": b'{"text": "' + b"x" * 3000 + b'"}',
}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@dataclass
class Run:
    """A `streamer run` process and its log."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """Sum over all series of a metric."""
        _, text = self.get("/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}[{{ ]", line))

    def wait_for(self, what: Callable[[], bool], timeout_s: float = START_S) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if what():
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            time.sleep(0.1)
        pytest.fail(f"not within {timeout_s} s; log:\n{self.log.read_text()}")

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], Run]]:
    """Starts `streamer run` on settings; what still runs at the end is killed."""
    running: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []

    def start_(content: dict[str, Any]) -> Run:
        port = free_port()
        path = tmp_path / f"settings-{len(running)}.yaml"
        path.write_text(yaml.safe_dump({**content, "http": {"port": port}}))
        log = (tmp_path / f"log-{len(running)}").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "streamer", "run", "-c", str(path)], stdout=log, stderr=subprocess.STDOUT
        )
        running.append((process, log))
        return Run(process, Path(log.name), port)

    yield start_
    for process, log in running:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()


def settings_for(broker: RoadBroker, name: str, model: str | Path = "fake") -> dict[str, Any]:
    for topic in ("in", "out", "dead"):
        if f"{name}-{topic}" not in broker.made:
            broker.create_topic(f"{name}-{topic}")
    facets = {
        "mood": {"labels": ["angry", "happy"]},
        "topic": {"kind": "multi", "labels": {"delivery": "a parcel", "praise": None}},
    }
    return {
        "kafka": {
            "bootstrap_servers": broker.bootstrap_servers,
            "group_id": name,
            "group_protocol": "classic" if broker.name == "kafka" else "consumer",
            "properties": dict(broker.properties("classic" if broker.name == "kafka" else "consumer")),
        },
        "model": {"name": str(model), "device": "cpu", "dtype": "float32"},
        "batching": {"max_records": 16},
        "limits": {"commit_interval_ms": 50, "max_uncommitted_records": 100},
        "label_sets": {"tickets": {"facets": facets}},
        "streams": [
            {
                "topic": f"{name}-in",
                "output": f"{name}-out",
                "dead_letter": f"{name}-dead",
                "label_set": "tickets",
                "max_value_bytes": 2000,
                "pass_headers": ["trace"],
            }
        ],
    }


def record(topic: str, value: bytes | None, key: str | None = None) -> Outbound:
    return Outbound(topic, None if key is None else key.encode(), value, (("trace", b"7"),), 1_700_000_000_000, False)


def events_of(broker: RoadBroker, topic: str) -> Counter[str]:
    """How often each id was published; every event satisfies the committed schema."""
    ids: Counter[str] = Counter()
    for message in broker.read_all(topic):
        event = orjson.loads(message.value() or b"")
        EVENT.validate(event)
        ids[event["id"]] += 1
    return ids


def committed(broker: RoadBroker, group: str, topic: str) -> int:
    from confluent_kafka import TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": group, **broker.properties("consumer")}
    )
    try:
        parts = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        found = consumer.committed([TopicPartition(topic, part) for part in parts], timeout=20)
        return sum(max(0, one.offset) for one in found)
    finally:
        consumer.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_record_ends_once_and_a_signal_drains(
    broker: RoadBroker, unique: str, start: Callable[[dict[str, Any]], Run], tiny_bundled: Path, number: int
) -> None:
    content = settings_for(broker, unique, tiny_bundled)
    good = [record(f"{unique}-in", orjson.dumps({"text": text}), f"k{i % 5}") for i, text in enumerate(TEXTS[:60])]
    bad = [record(f"{unique}-in", value, "bad") for value in BAD.values()]
    broker.produce(good[:30] + bad + good[30:])
    run = start(content)
    run.wait_for(lambda: run.metric("streamer_records_published_total") == 60)
    run.wait_for(lambda: run.metric("streamer_records_dead_lettered_total") == 5)
    assert run.get("/healthz")[0] == 200
    assert run.get("/readyz")[0] == 200
    assert run.stop(number) == 0
    assert committed(broker, unique, f"{unique}-in") == 65

    messages = broker.read_all(f"{unique}-out")
    assert {message.timestamp() for message in messages} == {(1, 1_700_000_000_000)}
    assert all(message.headers() == [("trace", b"7")] for message in messages)
    assert Counter(message.key() for message in messages) == Counter(one.key for one in good)
    assert set(events_of(broker, f"{unique}-out").values()) == {1}
    codes = {}
    for message in broker.read_all(f"{unique}-dead"):
        headers: dict[str, bytes] = dict(message.headers() or [])  # type: ignore[arg-type]  # pairs, when read
        added = {
            name.removeprefix(DEAD_LETTER_HEADER): value.decode()
            for name, value in headers.items()
            if name.startswith(DEAD_LETTER_HEADER)
        }
        DEAD_LETTER.validate(added)
        codes[added["code"]] = message.value()
    assert codes == BAD


def test_a_second_run_goes_on_where_the_first_ended(
    broker: RoadBroker, unique: str, start: Callable[[dict[str, Any]], Run]
) -> None:
    content = settings_for(broker, unique)
    broker.produce([record(f"{unique}-in", orjson.dumps({"text": text})) for text in TEXTS[:40]])
    first = start(content)
    first.wait_for(lambda: first.metric("streamer_records_published_total") == 40)
    assert first.stop(signal.SIGTERM) == 0
    broker.produce([record(f"{unique}-in", orjson.dumps({"text": text})) for text in TEXTS[40:50]])
    second = start(content)
    second.wait_for(lambda: second.metric("streamer_records_published_total") == 10)
    assert second.stop(signal.SIGTERM) == 0
    ids = events_of(broker, f"{unique}-out")
    assert len(ids) == 50
    assert set(ids.values()) == {1}


@pytest.mark.kafka
@pytest.mark.parametrize("promise", ["at_least_once", "exactly_once"])
def test_a_killed_run_loses_nothing_and_repeats_at_most_what_is_promised(
    kafka_road: RoadBroker, unique: str, start: Callable[[dict[str, Any]], Run], promise: str
) -> None:
    content = settings_for(kafka_road, unique)
    content["delivery"] = promise
    content["model"]["service_time_ms"] = 3
    content["kafka"]["properties"] = {"session.timeout.ms": 6000}
    kafka_road.produce([record(f"{unique}-in", orjson.dumps({"text": f"{text} again"})) for text in TEXTS * 3])
    first = start(content)
    first.wait_for(lambda: first.metric("streamer_records_published_total") > 150)
    first.process.kill()
    first.process.wait()
    second = start(content)
    second.wait_for(lambda: committed(kafka_road, unique, f"{unique}-in") == 600)
    assert second.stop(signal.SIGTERM) == 0
    ids = events_of(kafka_road, f"{unique}-out")
    assert len(ids) == 600
    at_most = content["limits"]["max_uncommitted_records"] if promise == "at_least_once" else 0
    assert sum(ids.values()) - 600 <= at_most


@pytest.mark.kafka
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_that_come_and_go_under_exactly_once_lose_and_repeat_nothing(
    kafka_road: RoadBroker, unique: str, start: Callable[[dict[str, Any]], Run], protocol: str
) -> None:
    content = settings_for(kafka_road, unique)
    content["delivery"] = "exactly_once"
    content["model"]["service_time_ms"] = 10
    content["kafka"].update(group_protocol=protocol, transactional_id=f"{unique}-1")
    bad = [record(f"{unique}-in", value, "bad") for value in BAD.values()]
    good = [record(f"{unique}-in", orjson.dumps({"text": text}), f"k{i % 9}") for i, text in enumerate(TEXTS * 5)]
    kafka_road.produce(good[:500] + bad + good[500:])
    first = start(content)
    first.wait_for(lambda: first.metric("streamer_records_published_total") > 100)
    second = start({**content, "kafka": {**content["kafka"], "transactional_id": f"{unique}-2"}})
    second.wait_for(lambda: second.metric("streamer_records_published_total") > 50)
    assert first.stop(signal.SIGTERM) == 0
    second.wait_for(lambda: committed(kafka_road, unique, f"{unique}-in") >= 1005)
    assert second.stop(signal.SIGTERM) == 0
    ids = events_of(kafka_road, f"{unique}-out")
    assert len(ids) == 1000
    assert set(ids.values()) == {1}
    assert len(kafka_road.read_all(f"{unique}-dead")) == len(bad)


@pytest.mark.kafka
def test_a_second_holder_of_a_transactional_id_fences_the_first_which_says_so(
    kafka_road: RoadBroker, unique: str, start: Callable[[dict[str, Any]], Run]
) -> None:
    content = settings_for(kafka_road, unique)
    content["delivery"] = "exactly_once"
    content["model"]["service_time_ms"] = 5
    kafka_road.produce([record(f"{unique}-in", orjson.dumps({"text": text})) for text in TEXTS * 10])
    first = start(content)
    first.wait_for(lambda: first.metric("streamer_records_published_total") > 10)
    second = start(content)
    assert first.process.wait(60) == 1
    line = one_line(first.log.read_text())
    assert "fenced: another process took the transactional id" in line
    assert "kafka.transactional_id" in line
    second.wait_for(lambda: committed(kafka_road, unique, f"{unique}-in") >= 10 * len(TEXTS))
    assert second.stop(signal.SIGTERM) == 0
    ids = events_of(kafka_road, f"{unique}-out")
    assert len(ids) == 10 * len(TEXTS)
    assert set(ids.values()) == {1}


@pytest.mark.kafka
def test_a_member_without_partitions_is_ready(
    kafka_road: RoadBroker, unique: str, start: Callable[[dict[str, Any]], Run]
) -> None:
    kafka_road.create_topic(f"{unique}-in", partitions=1)
    content = settings_for(kafka_road, unique)
    first, second = start(content), start(content)
    for run in (first, second):
        run.wait_for(lambda run=run: run.get("/readyz")[0] == 200)  # type: ignore[misc]
    first.wait_for(lambda: {partitions(first), partitions(second)} == {0, 1})
    assert second.get("/readyz")[0] == 200
    assert {first.stop(signal.SIGTERM), second.stop(signal.SIGTERM)} == {0}


def partitions(run: Run) -> int:
    found: int = json.loads(run.get("/readyz")[1])["partitions"]
    return found


def run_command(*arguments: str, timeout_s: float = START_S) -> tuple[int, str]:
    """Exit code and standard error of a `streamer` command."""
    done = subprocess.run(
        [sys.executable, "-m", "streamer", *arguments], capture_output=True, timeout=timeout_s, check=False
    )
    return done.returncode, done.stderr.decode()


def one_line(error: str) -> str:
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in error
    return line


@pytest.mark.kafka
def test_missing_topics_are_one_line(kafka_road: RoadBroker, unique: str, tmp_path: Path) -> None:
    content = settings_for(kafka_road, unique)
    content["streams"][0]["output"] = f"{unique}-nowhere"
    content["http"] = {"enabled": False}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    code, error = run_command("run", "-c", str(tmp_path / "s.yaml"))
    assert code == 2
    assert f"'{unique}-nowhere' (output of '{unique}-in')" in one_line(error)


def test_an_unreachable_broker_is_one_line(embedded_road: RoadBroker, unique: str, tmp_path: Path) -> None:
    content = settings_for(embedded_road, unique)
    content["kafka"]["bootstrap_servers"] = f"127.0.0.1:{free_port()}"
    content["http"] = {"enabled": False}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    code, error = run_command("run", "-c", str(tmp_path / "s.yaml"))
    assert code in (1, 2)
    assert content["kafka"]["bootstrap_servers"] in one_line(error)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kafak": {}}, "unknown key"),
        ({"delivery": "exactly_once"}, "exactly_once"),
        ({"model": {"name": "/no/such/model"}}, "/no/such/model"),
        ({"label_sets": {"tickets": {"facets": {"f": {"labels": []}}}}}, "the list is empty"),
    ],
)
def test_bad_settings_are_one_line(
    embedded_road: RoadBroker, unique: str, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    content = {**settings_for(embedded_road, unique), "http": {"enabled": False}, **change}
    content["kafka"]["bootstrap_servers"] = "embedded"
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    code, error = run_command("run", "-c", str(tmp_path / "s.yaml"))
    assert code == 2
    assert says in one_line(error)


def test_a_model_of_another_architecture_is_one_line(embedded_road: RoadBroker, unique: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"architecture_type": "bi-encoder", "model_type": "GLiClass"}')
    content = {**settings_for(embedded_road, unique, tmp_path / "model"), "http": {"enabled": False}}
    content["kafka"]["bootstrap_servers"] = "embedded"
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    code, error = run_command("run", "-c", str(tmp_path / "s.yaml"))
    assert code == 2
    assert "bi-encoder" in one_line(error)


def test_an_embedded_broker_is_fed_by_produce(
    unique: str, start: Callable[[dict[str, Any]], Run], embedded_road: RoadBroker, tmp_path: Path
) -> None:
    content = settings_for(embedded_road, unique)
    content["kafka"] = {"bootstrap_servers": "embedded", "group_id": unique, "group_protocol": "consumer"}
    run = start(content)
    run.wait_for(lambda: "embedded broker at " in run.log.read_text())
    (found,) = re.findall(r"embedded broker at (\S+)", run.log.read_text())
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:20]))
    code, error = run_command("produce", str(path), "--topic", f"{unique}-in", "--bootstrap", found)
    assert (code, error) == (0, "")
    run.wait_for(lambda: run.metric("streamer_records_published_total") == 20)
    assert run.stop(signal.SIGTERM) == 0


def test_the_demo_labels_its_records(tmp_path: Path) -> None:
    """The shipped model on the shipped records: the first thing a user sees."""
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "demo", "--json"],
        capture_output=True, timeout=110, check=False, env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    figures = json.loads(done.stdout.decode().splitlines()[-1])
    assert figures["consumed"] == figures["published"] + figures["dead_lettered"] == 265
    assert figures["dead_lettered"] == 4
    assert figures["model"].startswith("bundled@")
    assert len(figures["agreement"]) == 6
    assert {name: share for name, share in figures["agreement"].items() if share < 0.6} == {}
