"""`streamer replay` as users start it: beside a production that labelled the topic before, interrupted, resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import yaml
from confluent_kafka import Consumer, TopicPartition

from streamer.records import Outbound

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

pytestmark = pytest.mark.kafka

RECORDS, PARTITIONS = 300, 3
FIRST_MS = 1_790_000_000_000  # of the first record; each next one is a minute later
WAIT_S = 60.0
MAX_UNCOMMITTED = 20


@dataclass
class Stage:
    """Topics that production has filled, and what a replay is started with."""

    road: RoadBroker
    name: str
    folder: Path

    def topic(self, use: str) -> str:
        return f"{self.name}.{use}"

    def settings(self, file: str, *, wording: str) -> Path:
        """`wording` changes what the model reads, and so what it answers."""
        facets = {
            "sentiment": {"labels": {"bad": f"{wording} bad", "neutral": None, "good": f"{wording} good"}},
            "topic": {"kind": "multi", "threshold": 0.7, "labels": {"bill": wording, "outage": f"{wording} too"}},
            "urgency": {"labels": {"now": wording, "later": None}, "min_score": 0.8},
            wording: {"labels": ["yes", "no"]},
        }
        routes = [
            {"when": {"facet": "topic", "label": "bill"}, "to": self.topic("bills")},
            {"when": {"facet": "topic", "label": "outage"}, "to": self.topic("outages")},
        ]
        path = self.folder / file
        path.write_text(
            yaml.safe_dump(
                {
                    "kafka": {"bootstrap_servers": self.road.bootstrap_servers, "group_id": self.topic("group")},
                    "model": {"name": "fake"},
                    "batching": {"max_records": 8},
                    "limits": {"max_uncommitted_records": MAX_UNCOMMITTED},
                    "http": {"enabled": False},
                    "label_sets": {"all": {"facets": facets, "routes": routes, "all_matching": True}},
                    "streams": [
                        {
                            "topic": self.topic("raw"),
                            "output": self.topic("labelled"),
                            "dead_letter": self.topic("dead"),
                            "label_set": "all",
                        }
                    ],
                }
            )
        )
        return path

    def events(self, *uses: str) -> list[dict[str, Any]]:
        found = [message.value() for use in uses for message in self.road.read_all(self.topic(use))]
        return [orjson.loads(value) for value in found if value is not None]

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "streamer", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def replay(self, config: Path, to: str, *more: object) -> subprocess.Popen[str]:
        return self.start("replay", "-c", config, "--topic", self.topic("raw"), "--to", self.topic(to), *more)

    def committed(self) -> dict[int, int]:
        """Offsets of production's group."""
        consumer = Consumer({"bootstrap.servers": self.road.bootstrap_servers, "group.id": self.topic("group")})
        asked = [TopicPartition(self.topic("raw"), partition) for partition in range(PARTITIONS)]
        found = {tp.partition: tp.offset for tp in consumer.committed(asked, timeout=30)}
        consumer.close()
        return found

    def written(self, use: str) -> int:
        """Messages that a topic holds."""
        consumer = Consumer({"bootstrap.servers": self.road.bootstrap_servers, "group.id": self.topic("look")})
        partitions = [TopicPartition(self.topic(use), partition) for partition in range(PARTITIONS)]
        ends = [consumer.get_watermark_offsets(tp, 30)[1] for tp in partitions]
        consumer.close()
        return sum(ends)


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, out, err


def iso(minutes: int) -> str:
    return datetime.fromtimestamp(FIRST_MS / 1000 + 60 * minutes, UTC).isoformat()


def is_bad(number: int) -> bool:
    return number % 50 == 7


@pytest.fixture
def stage(kafka_road: RoadBroker, unique: str, tmp_path: Path) -> Iterator[Stage]:
    """Record i stands in partition i mod 3, at offset i div 3."""
    stage = Stage(kafka_road, unique, tmp_path)
    for use in ("raw", "labelled", "dead", "bills", "outages", "side"):
        kafka_road.create_topic(stage.topic(use), partitions=PARTITIONS)
    for partition in range(PARTITIONS):
        kafka_road.produce(
            [
                Outbound(
                    stage.topic("raw"),
                    f"customer {number % 7}".encode(),
                    b"<xml/>" if is_bad(number) else orjson.dumps({"text": f"the parcel {number} is late"}),
                    (),
                    FIRST_MS + 60_000 * number,
                    False,
                )
                for number in range(partition, RECORDS, PARTITIONS)
            ],
            partition,
        )
    production = stage.start("run", "-c", stage.settings("old.yaml", wording="old"))
    try:
        wait_until(lambda: sum(max(0, offset) for offset in stage.committed().values()) == RECORDS, production)
        production.send_signal(signal.SIGTERM)
        assert ended(production)[0] == 0
        yield stage
    finally:
        production.kill()
        production.communicate()


def by_id(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The last event of every id, with the routes of all that came with it."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        known = found.get(event["id"])
        routes = {event["route"]} - {None}
        if known is not None and known["classified_at_ms"] > event["classified_at_ms"]:
            continue
        if known is not None and known["classified_at_ms"] == event["classified_at_ms"]:
            routes |= known["routes"]
        found[event["id"]] = {**event, "routes": routes}
    return found


def answer(event: dict[str, Any], facet: str) -> tuple[str, ...] | None:
    given = event["facets"][facet]
    return None if given["abstained"] else tuple(sorted(given["labels"]))


def expected(old: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]], facet: str) -> dict[str, Any]:
    """A facet of the report, counted one by one."""
    both = old.keys() & new.keys()
    has = [{id_ for id_ in both if facet in side[id_]["facets"]} for side in (old, new)]
    pairs = [(answer(old[id_], facet), answer(new[id_], facet)) for id_ in has[0] & has[1]]
    moved = Counter(pair for pair in pairs if pair[0] != pair[1])
    return {
        "name": facet,
        "compared": len(pairs),
        "unchanged": len(pairs) - moved.total(),
        "changed": sum(count for (before, after), count in moved.items() if before is not None and after is not None),
        "newly_abstained": sum(count for (_, after), count in moved.items() if after is None),
        "no_longer_abstained": sum(count for (before, _), count in moved.items() if before is None),
        "only_old": len(has[0] - has[1]),
        "only_new": len(has[1] - has[0]),
        "moves": {(before, after): count for (before, after), count in moved.items()},
    }


def told(facet: dict[str, Any]) -> dict[str, Any]:
    """A facet as the report tells it, in the shape of `expected`."""

    def labels(value: list[str] | None) -> tuple[str, ...] | None:
        return None if value is None else tuple(value)

    return {**facet, "moves": {(labels(m["before"]), labels(m["after"])): m["records"] for m in facet["moves"]}}


def test_an_interrupted_replay_goes_on_and_tells_what_changed(stage: Stage) -> None:
    config, report = stage.settings("new.yaml", wording="new"), stage.folder / "report.json"
    before = stage.committed()
    assert sum(before.values()) == RECORDS
    arguments = ("--since", "beginning", "--report", report)

    first = stage.replay(config, "side", *arguments, "--rate", 60)
    wait_until(lambda: stage.written("side") >= 60, first)
    first.send_signal(signal.SIGINT)
    code, out, err = ended(first)
    assert code == 130, err
    assert "the same command goes on from there" in err
    assert not out
    done = {event["id"] for event in stage.events("side")}
    assert 30 <= len(done) < 290
    assert not report.exists()

    code, out, err = ended(stage.replay(config, "side", *arguments, "--json"))
    assert code == 0, err
    assert "offsets are left" in err
    assert "not_json (not written)" in err
    events = stage.events("side")
    wanted = {f"{stage.topic('raw')}-{i % 3}-{i // 3}" for i in range(RECORDS) if not is_bad(i)}
    assert {event["id"] for event in events} == wanted
    labelled_once = {(event["id"], event["route"]) for event in events}
    assert len(events) - len(labelled_once) <= MAX_UNCOMMITTED
    assert stage.committed() == before

    found = orjson.loads(report.read_bytes())
    assert orjson.loads(out.splitlines()[-1]) == found
    old, new = by_id(stage.events("labelled", "bills", "outages")), by_id(events)
    facets = {facet["name"]: told(facet) for facet in found["facets"]}
    assert facets == {name: expected(old, new, name) for name in ("sentiment", "topic", "urgency", "old", "new")}
    assert all(facets[name]["moves"] for name in ("sentiment", "topic", "urgency"))
    assert facets["urgency"]["newly_abstained"] > 0
    assert facets["urgency"]["no_longer_abstained"] > 0
    assert found["compared"] == len(wanted)
    assert found["only_old"] == found["only_new"] == 0
    assert found["rerouted"] == sum(old[id_]["routes"] != new[id_]["routes"] for id_ in wanted) > 0
    moves = Counter(
        (tuple(sorted(old[i]["routes"])), tuple(sorted(new[i]["routes"])))
        for i in wanted
        if old[i]["routes"] != new[i]["routes"]
    )
    assert {(tuple(m["before"]), tuple(m["after"])): m["records"] for m in found["routes"]} == moves
    assert found["old"]["versions"] == {next(iter(old.values()))["label_set"]["version"]: len(wanted)}
    assert found["new"]["versions"] == {found["label_set"]["version"]: len(wanted)}
    assert found["label_set"]["version"] not in found["old"]["versions"]

    code, out, err = ended(stage.replay(config, "side", *arguments, "--json"))
    assert code == 0
    assert "replayed before" in err
    again = orjson.loads(out.splitlines()[-1])
    assert {key: again[key] for key in found if key != "this_start"} == {
        key: found[key] for key in found if key != "this_start"
    }
    assert stage.written("side") == len(events)


def test_a_stretch_of_time_into_a_topic_with_dead_letters_of_its_own(stage: Stage) -> None:
    config = stage.settings("new.yaml", wording="new")
    stage.road.create_topic(stage.topic("side-dead"), partitions=1)
    bounds = ("--since", iso(100), "--until", iso(200))
    dead, before = stage.topic("side-dead"), stage.written("dead")
    code, out, err = ended(stage.replay(config, "side", *bounds, "--dead-letter", dead, "--json"))
    assert code == 0, err
    found = orjson.loads(out.splitlines()[-1])
    wanted = {f"{stage.topic('raw')}-{i % 3}-{i // 3}" for i in range(100, 200) if not is_bad(i)}
    assert {event["id"] for event in stage.events("side")} == wanted
    assert found["compared"] == found["old"]["records"] == len(wanted)
    assert found["this_start"]["rejected"] == {"not_json": 2}
    assert {message.value() for message in stage.road.read_all(dead)} == {b"<xml/>"}
    assert stage.written("dead") == before

    # another replay, whose old events are the first one's
    stage.road.create_topic(stage.topic("side-again"), partitions=PARTITIONS)
    more = (*bounds, "--compare-with", stage.topic("side"), "--json")
    code, out, err = ended(stage.replay(config, "side-again", *more))
    assert code == 0, err
    found = orjson.loads(out.splitlines()[-1])
    assert found["compared"] == len(wanted)
    assert found["rerouted"] == 0
    assert all(facet["unchanged"] == facet["compared"] == len(wanted) for facet in found["facets"])


def test_what_a_replay_refuses_and_what_is_empty(stage: Stage) -> None:
    config = stage.settings("new.yaml", wording="new")
    code, _, err = ended(stage.replay(config, "labelled", "--since", "beginning"))
    assert (code, err.count("\n")) == (2, 1)
    assert "is in use (output of" in err
    code, _, err = ended(stage.replay(config, "nowhere", "--since", "beginning"))
    assert (code, err.count("\n")) == (2, 1)
    assert "--to" in err
    assert "is missing" in err
    code, _, err = ended(stage.replay(config, "side", "--since", "offset:1000"))
    assert code == 0
    assert "nothing to replay" in err
    other = Consumer({"bootstrap.servers": stage.road.bootstrap_servers, "group.id": stage.topic("other")})
    other.commit(offsets=[TopicPartition(stage.topic("raw"), 0, 5)], asynchronous=False)
    code, _, err = ended(stage.replay(config, "side", "--since", "beginning", "--group", stage.topic("other")))
    assert (code, err.count("\n")) == (2, 1)
    assert "no replay's" in err
    assert other.committed([TopicPartition(stage.topic("raw"), 0)], timeout=30)[0].offset == 5
    other.close()
    assert stage.written("side") == 0
