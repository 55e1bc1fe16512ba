"""The records of a fault run, the settings of the processes that label them, and what their messages tell.

Enters: a seed, topic names, messages as a client reads them. Leaves: (key, value) pairs, settings, Inputs and Seen.
Must not know: who reads when, or what is done to the processes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from confluent_kafka import Message

from load_tests.faults.evidence import Delivery, Input, Seen
from streamer.encode import DEAD_LETTER_HEADER
from streamer.records import Position
from streamer.settings_labels import LabelSetSettings

TOPICS = ("in", "out", "alarm", "dead")
KEYS = 300
NO_KEY_SHARE = 0.03
BAD_SHARE = 0.02
GOOD = b'"good":true'
FACETS: dict[str, Any] = {
    "sentiment": {"labels": ["negative", "neutral", "positive"]},
    "topic": {"kind": "multi", "labels": ["billing", "delivery", "outage", "praise"]},
}
# about one record in six goes to a second output topic
ROUTE = {"when": {"facet": "sentiment", "label": "negative", "score": 0.9}}
NO_NUMBER = -1


@dataclass(frozen=True, slots=True)
class Process:
    """What one process is told apart from all others by. `writer` names it in its messages: it is the name of its
    label set, which no other process, nor the same slot started again, shares."""

    slot: str
    writer: str
    http_port: int


@dataclass(frozen=True, slots=True)
class Work:
    """What all processes of a run have in common. `names`: TOPICS and "group" -> their real names."""

    bootstrap_servers: str
    names: Mapping[str, str]
    delivery: Delivery
    static_members: bool
    session_timeout_ms: int
    service_time_ms: float
    window_records: int
    max_uncommitted_records: int
    drain_timeout_s: float

    def settings(self, process: Process) -> dict[str, Any]:
        """Settings of one process: what is not said here is as in production."""
        kafka: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "group_id": self.names["group"],
            "properties": {"session.timeout.ms": self.session_timeout_ms, "heartbeat.interval.ms": 1000},
        }
        if self.delivery == "exactly_once":
            kafka["transactional_id"] = transactional_id(self.names["group"], process.slot)
        if self.static_members:
            kafka["group_instance_id"] = process.slot
        return {
            "kafka": kafka,
            "delivery": self.delivery,
            "model": {"name": "fake", "service_time_ms": self.service_time_ms},
            "batching": {"max_records": self.window_records},
            "limits": {
                "max_uncommitted_records": self.max_uncommitted_records,
                "drain_timeout_s": self.drain_timeout_s,
            },
            "http": {"port": process.http_port},
            "label_sets": {process.writer: label_set(self.names["alarm"])},
            "streams": [
                {
                    "topic": self.names["in"],
                    "output": self.names["out"],
                    "dead_letter": self.names["dead"],
                    "label_set": process.writer,
                    "pass_payload": True,
                }
            ],
        }

    def version(self) -> str:
        """Label-set version that every event must carry."""
        return LabelSetSettings(**label_set(self.names["alarm"])).build("any").version


def label_set(alarm: str) -> dict[str, Any]:
    """The one label set, under whatever name."""
    return {"facets": FACETS, "routes": [{**ROUTE, "to": alarm}]}


def transactional_id(group: str, slot: str) -> str:
    """Stable by slot, as a stateful set's pod name would make it."""
    return f"{group}-{slot}"


def records(count: int, seed: int) -> Iterator[tuple[bytes | None, bytes | None]]:
    """(key, value) of each record: most have a key and count on within it; some are malformed."""
    draw = random.Random(seed)
    sequences = [0] * KEYS
    for number in range(count):
        key = draw.randrange(KEYS)
        sequences[key] += 1
        name = None if draw.random() < NO_KEY_SHARE else b"key-%d" % key
        if draw.random() < BAD_SHARE:
            yield name, _malformed(number, draw)
            continue
        text = f"record {number} of a fault run, number {sequences[key]} of its key"
        yield name, orjson.dumps({"number": number, "sequence": sequences[key], "text": text, "good": True})


def _malformed(number: int, draw: random.Random) -> bytes | None:
    kinds = [None, b"", b"<no JSON %d>" % number, b"\xff\xfe\x00", b'{"number":%d}' % number, b'{"text":5}', b"[[[["]
    return draw.choice(kinds)


def as_input(message: Message) -> tuple[Position, Input]:
    """A record as it was sent."""
    value, key = message.value(), message.key()
    good = value is not None and GOOD in value
    number = orjson.loads(value or b"")["number"] if good else NO_NUMBER
    return _place(message), Input(None if key is None else bytes(key), number, not good)


def as_seen(message: Message, dead_letters: str, arrival_s: float) -> Seen:
    """An event, or a message of the topic `dead_letters`."""
    at = _place(message)
    if at.topic == dead_letters:
        told = dict(message.headers() or [])
        topic, partition, offset, writer = (
            bytes(told[DEAD_LETTER_HEADER + name] or b"").decode()  # type: ignore[arg-type]
            for name in ("topic", "partition", "offset", "label-set")
        )
        return Seen(Position(topic, int(partition), int(offset)), at, True, None, writer, None, arrival_s)
    event = orjson.loads(message.value() or b"")
    source, stamp = event["source"], event["label_set"]
    of = Position(source["topic"], source["partition"], source["offset"])
    return Seen(of, at, False, event["payload"]["number"], stamp["name"], stamp["version"], arrival_s)


def _place(message: Message) -> Position:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return Position(topic, partition, offset)
