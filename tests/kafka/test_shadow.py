"""A shadow beside transactions, on Apache Kafka: its events stand in a topic of their own, whatever the road does."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import orjson
import pytest
from confluent_kafka import Message

from streamer.app import Connection
from streamer.errors import UsageError
from streamer.observe import Observer
from streamer.records import Outbound
from streamer.serving import serve
from streamer.settings import Settings, build_settings

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

pytestmark = pytest.mark.kafka

SCHEMAS = Path(__file__).parents[2] / "schemas"
EVENT = jsonschema.Draft202012Validator(orjson.loads((SCHEMAS / "shadow-event.schema.json").read_bytes()))
WAIT_S = 60.0
RECORDS = 120


class Published(Observer):
    def __init__(self) -> None:
        self.records = 0

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self.records += len(latencies_s)


def settings_for(road: RoadBroker, name: str) -> Settings:
    mood = {"labels": ["angry", "happy"]}
    content = {
        "kafka": {"bootstrap_servers": road.bootstrap_servers, "group_id": name, "transactional_id": name},
        "delivery": "exactly_once",
        "model": {"name": "fake"},
        "http": {"enabled": False},
        "label_sets": {
            "tickets": {"facets": {"mood": mood}},
            "next": {"facets": {"mood": mood, "size": {"labels": ["small", "large"]}}},
        },
        "streams": [
            {"topic": f"{name}-in", "output": f"{name}-out", "dead_letter": f"{name}-dead", "label_set": "tickets"}
        ],
        "shadow": {
            "max_busy": 1.0,
            "streams": {f"{name}-in": {"label_set": "next", "share": 0.5, "topic": f"{name}-shadow"}},
        },
    }
    return build_settings(content, origin="test")


def test_shadow_events_stand_beside_the_transactions(kafka_road: RoadBroker, unique: str) -> None:
    settings = settings_for(kafka_road, unique)
    connection = Connection(kafka_road.bootstrap_servers, {}, embedded=False)
    for topic in ("in", "out", "dead"):
        kafka_road.create_topic(f"{unique}-{topic}")
    stop, watch = threading.Event(), Published()

    def run() -> None:
        serve(settings, connection=connection, stop=stop, observers=[watch], settings_path=None)

    with pytest.raises(UsageError, match=rf"lacks '{unique}-shadow' \(shadow events of '{unique}-in'\)"):
        run()
    kafka_road.create_topic(f"{unique}-shadow")
    thread = threading.Thread(target=run)
    thread.start()
    sent = 0
    shadowed: list[Message] = []
    try:
        deadline_s = time.monotonic() + WAIT_S
        while time.monotonic() < deadline_s and (sent < RECORDS or watch.records < sent or len(shadowed) < 10):
            if sent < RECORDS:  # a few at a time: the shadow has to find the device free
                some = range(sent, sent + 10)
                kafka_road.produce(
                    [
                        Outbound(f"{unique}-in", b"%d" % i, orjson.dumps({"text": f"t {i}"}), (), None, False)
                        for i in some
                    ]
                )
                sent += 10
            time.sleep(0.2)
            shadowed = kafka_road.read_all(f"{unique}-shadow")
    finally:
        stop.set()
        thread.join(WAIT_S)
    assert not thread.is_alive()
    out = {
        orjson.loads(message.value() or b"")["id"]: message.key() for message in kafka_road.read_all(f"{unique}-out")
    }
    assert len(out) == watch.records == RECORDS
    shadowed = kafka_road.read_all(f"{unique}-shadow")
    assert 10 <= len(shadowed) <= 0.75 * RECORDS
    for message in shadowed:
        event = orjson.loads(message.value() or b"")
        EVENT.validate(event)
        assert message.key() == out[event["id"]]
        assert event["shadow"]["label_set"]["name"] == "next"
        assert event["road"]["label_set"]["name"] == "tickets"
        assert event["agreed"] == {"mood": True}  # the fake engine answers the same labels alike
