"""Corrections joined with their records on a real broker: found by position, decoded, written in one step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console

from streamer.cli import app
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.feedback.job import Wish, run_feedback
from streamer.records import Outbound
from streamer.settings import load_settings
from streamer.transport.kafka_range import Edge, RangeReader, find_ranges
from streamer.tuning.labelled import read_labelled_records

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

pytestmark = pytest.mark.kafka


class Road:
    """An input topic of two partitions, a topic of corrections, settings, and what feedback makes of them."""

    def __init__(self, broker: RoadBroker, name: str, folder: Path) -> None:
        self.broker = broker
        self.raw, self.corrections = (broker.create_topic(f"{name}-{part}", 2) for part in ("raw", "corrections"))
        self.folder = folder
        self.config = folder / "streamer.yaml"
        self.out = folder / "corrected.jsonl"
        stream = {"topic": self.raw, "output": "out", "dead_letter": "dead", "label_set": "tickets"}
        facets = {"mood": {"labels": ["good", "bad"]}, "topic": {"kind": "multi", "labels": ["billing", "outage"]}}
        content = {
            "kafka": {"bootstrap_servers": broker.bootstrap_servers},
            "label_sets": {"tickets": {"facets": facets}},
            "streams": [{**stream, "text": ["/subject", "/body"]}],
        }
        self.config.write_text(yaml.safe_dump(content))

    def record(self, number: int, partition: int = 0) -> None:
        self.send(self.raw, {"subject": f"s{number}", "body": f"b{number}", "id": number}, partition)

    def correct(self, partition: int, offset: int, labels: Any, *, on: int = 0) -> None:
        self.send(self.corrections, {"id": f"{self.raw}-{partition}-{offset}", "labels": labels}, on)

    def send(self, topic: str, value: Any, partition: int) -> None:
        raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        self.broker.produce([Outbound(topic, None, raw, (), None, False)], partition)

    def expire(self, topic: str, partition: int, before: int) -> None:
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap_servers, "log_level": 0})
        for answer in admin.delete_records([TopicPartition(topic, partition, before)]).values():
            answer.result()

    def run(self, **changed: Any) -> bool:
        wish = Wish(
            **{
                "config": self.config,
                "topic": self.corrections,
                "out": self.out,
                "label_set": None,
                "since": "beginning",
                "problems": self.folder / "problems.jsonl",
                "as_json": False,
                **changed,
            }
        )
        return run_feedback(wish, console=Console(quiet=True), out=Console(quiet=True))

    def rows(self) -> list[tuple[str, str, Any]]:
        rows = [json.loads(line) for line in self.out.read_text().splitlines()]
        return [(row["id"].removeprefix(f"{self.raw}-"), row["text"], row["labels"]) for row in rows]

    def problems(self) -> list[tuple[str, str]]:
        rows = [json.loads(line) for line in (self.folder / "problems.jsonl").read_text().splitlines()]
        return [(row["about"].removeprefix(f"{self.raw}-"), row["code"]) for row in rows]

    def label_set(self) -> LabelSet:
        return load_settings(self.config).build_label_sets()["tickets"]


@pytest.fixture
def road(kafka_road: RoadBroker, unique: str, tmp_path: Path) -> Road:
    return Road(kafka_road, unique, tmp_path)


def test_corrections_become_a_labelled_file_that_the_other_commands_read(road: Road) -> None:
    for number in range(4):
        road.record(number, partition=number % 2)
    road.correct(0, 0, {"mood": ["bad"]})
    road.correct(1, 1, {"mood": ["good"], "topic": ["outage", "billing"]}, on=1)
    road.correct(0, 1, {"topic": []})
    assert road.run()
    assert road.rows() == [
        ("0-0", "s0\nb0", {"mood": ["bad"]}),
        ("0-1", "s2\nb2", {"topic": []}),
        ("1-1", "s3\nb3", {"mood": ["good"], "topic": ["billing", "outage"]}),
    ]
    assert road.problems() == []
    read = read_labelled_records(road.out, road.label_set())
    assert read.texts == ("s0\nb0", "s2\nb2", "s3\nb3")
    assert read.right["mood"] == (frozenset({"bad"}), None, frozenset({"good"}))
    assert read.right["topic"] == (None, frozenset(), frozenset({"billing", "outage"}))


def test_the_last_correction_of_a_record_counts_and_a_second_run_changes_nothing(road: Road) -> None:
    road.record(0)
    road.record(1)
    for labels in ({"mood": ["good"]}, {"topic": ["billing"]}, {"mood": ["bad"]}):
        road.correct(0, 0, labels)
    road.correct(0, 1, {"mood": ["bad"]})
    road.correct(0, 1, {})
    assert road.run()
    assert road.rows() == [("0-0", "s0\nb0", {"mood": ["bad"]})]
    before = road.out.read_bytes()
    assert road.run()
    assert road.out.read_bytes() == before
    road.correct(0, 0, {"mood": ["good"]})
    assert road.run()
    assert road.rows() == [("0-0", "s0\nb0", {"mood": ["good"]})]
    road.correct(0, 0, {})
    assert not road.run()
    assert road.rows() == []


def test_expired_records_are_told_and_rows_of_an_earlier_run_stay(road: Road) -> None:
    for number in range(4):
        road.record(number)
    road.correct(0, 1, {"mood": ["bad"]})
    road.correct(0, 3, {"mood": ["good"]})
    assert road.run()
    road.expire(road.raw, 0, before=3)
    road.correct(0, 0, {"mood": ["bad"]})
    road.correct(0, 1, {"topic": ["billing"]})
    assert road.run()
    assert road.rows() == [
        ("0-1", "s1\nb1", {"topic": ["billing"]}),  # corrected anew, its text from the earlier run
        ("0-3", "s3\nb3", {"mood": ["good"]}),
    ]
    assert road.problems() == [("0-0", "expired")]
    road.expire(road.corrections, 0, before=4)
    assert road.run()
    assert [row[0] for row in road.rows()] == ["0-1", "0-3"]
    road.out.unlink()
    assert not road.run()
    assert not road.out.exists()


def test_what_cannot_be_used_is_told_one_by_one_and_the_rest_is_written(road: Road) -> None:
    road.record(0)
    road.send(road.raw, b"<xml/>", 0)
    road.send(road.raw, {"id": 3}, 0)
    for value in (b"\xff", None, {"id": "x", "labels": {}}, {"id": "other-0-1", "labels": {"mood": ["bad"]}}):
        road.send(road.corrections, value, 0)
    road.correct(0, 0, {"mood": ["ba"]})
    for offset in (0, 1, 2, 99):
        road.correct(0, offset, {"mood": ["bad"]})
    road.correct(7, 0, {"mood": ["bad"]})
    assert road.run()
    assert road.rows() == [("0-0", "s0\nb0", {"mood": ["bad"]})]
    codes = [code for _, code in road.problems()]
    assert codes[:5] == ["malformed", "null_value", "malformed", "unknown_topic", "unknown_label"]
    assert sorted(road.problems()[5:]) == [
        ("0-1", "not_json"), ("0-2", "no_text"), ("0-99", "not_there"), ("7-0", "not_there")
    ]  # fmt: skip


def test_records_far_apart_are_fetched_without_reading_all_between(road: Road) -> None:
    far = [0, 1, 4000, 9999]
    one = [Outbound(road.raw, None, json.dumps({"body": f"b{n}"}).encode(), (), None, False) for n in range(10_000)]
    road.broker.produce(one, 0)
    road.broker.produce(one[:10], 1)
    for offset in far:
        road.correct(0, offset, {"mood": ["bad"]})
    road.correct(1, 5, {"mood": ["bad"]})
    assert road.run()
    assert [row[1] for row in road.rows()] == [*(f"b{n}" for n in far), "b5"]


def test_a_reader_takes_other_ranges_after_the_first_ones(road: Road) -> None:
    for number in range(30):
        road.record(number)
    servers = road.broker.bootstrap_servers
    whole, _ = find_ranges(servers, {}, road.raw, since=Edge.BEGINNING, until=Edge.END, timeout_s=10)
    reader = RangeReader(bootstrap_servers=servers, properties={}, ranges=[], fetch_memory_mb=8, patience_s=10)
    assert reader.done
    for begin, end in ((20, 22), (3, 5), (28, 30), (3, 4)):
        reader.read_next([type(whole)(whole.at, begin, end)])
        found: list[int] = []
        while not reader.done:
            found += [record.position.offset for record in reader.poll(10, 0.2)]
        assert found == list(range(begin, end))
    reader.close()


def test_a_file_that_feedback_did_not_write_is_left_alone(road: Road) -> None:
    road.out.write_text('{"text": "mine"}\n')
    with pytest.raises(UsageError, match="row 1 was not written by streamer feedback"):
        road.run()
    assert road.out.read_text() == '{"text": "mine"}\n'


def test_wrong_usage_is_one_line(road: Road) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"topic": f"{road.raw}-missing"}, "missing"),
        ({"out": road.folder / "a.csv"}, "name a .jsonl file"),
        ({"out": road.folder / "no" / "a.jsonl"}, "in a directory that exists"),
        ({"problems": road.out}, "is the file of --out"),
        ({"since": "yesterday"}, "--since 'yesterday'"),
        ({"label_set": "posts"}, "no label set 'posts'"),
    ]
    for changed, message in cases:
        with pytest.raises(UsageError, match=message):
            road.run(**changed)


def test_the_command_prints_counts(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    road.record(0)
    road.correct(0, 0, {"mood": ["good"]})
    road.correct(0, 0, {"mood": ["bad"]})
    road.correct(0, 5, {"mood": ["bad"]})
    arguments = ["feedback", "-c", str(road.config), "--topic", road.corrections, "--out", str(road.out), "--json"]
    assert app(arguments, standalone_mode=False) == 0
    out = capsys.readouterr().out
    assert "3 corrections in" in out
    assert "1 rows in" in out
    assert "not used: 1 not_there" in out
    assert json.loads(out.splitlines()[-1]) == {
        "corrections": 3,
        "replaced": 1,
        "records": 2,
        "taken_back": 0,
        "joined": 1,
        "kept": 0,
        "corrected": 2,
        "written": 1,
        "problems": {"not_there": 1},
    }
