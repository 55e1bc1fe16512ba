"""The list of malformed records through a real `streamer run` on Apache Kafka: each ends once, the process lives."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jsonschema
import orjson
import pytest
from confluent_kafka import Message, Producer
from rich.console import Console

from load_tests.process import streamer_run
from load_tests.reading import balance, dead_letter_id, positions, read_all
from streamer.encode import DEAD_LETTER_HEADER
from tests.malformed import EVENT, MAX_VALUE_BYTES, Malformed, malformed_records

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

SCHEMAS = Path(__file__).parents[2] / "schemas"
EVENTS = jsonschema.Draft202012Validator(orjson.loads((SCHEMAS / "labelled-event.schema.json").read_bytes()))
DEAD_LETTERS = jsonschema.Draft202012Validator(orjson.loads((SCHEMAS / "dead-letter-headers.schema.json").read_bytes()))
MAX_MESSAGE_BYTES = 1_048_588  # what a topic takes by default
READY_S, ENDED_S = 60.0, 150.0
TOPICS = ("json", "text", "out", "dead", "route")


def produce(bootstrap_servers: str, topic: str, records: list[Malformed]) -> dict[str, Malformed]:
    """The records by their ids."""
    sent: dict[str, Malformed] = {}
    producer = Producer({"bootstrap.servers": bootstrap_servers, "message.max.bytes": MAX_MESSAGE_BYTES})
    for record in records:

        def delivered(error: object, message: Message, record: Malformed = record) -> None:
            assert error is None, f"{record.name}: {error}"
            sent[f"{message.topic()}-{message.partition()}-{message.offset()}"] = record

        producer.produce(topic, record.value, record.key, headers=list(record.headers), on_delivery=delivered)
        producer.poll(0)
    assert producer.flush(30) == 0
    producer.close()
    assert len(sent) == len(records)
    return sent


def settings(bootstrap_servers: str, name: str, model: str, promise: str) -> dict[str, Any]:
    facets = {
        "mood": {"labels": ["bad", "good"], "min_margin": 0.05},
        "topic": {"kind": "multi", "labels": {"billing": "a question about a bill", "outage": None}},
    }
    routes = [{"when": {"facet": "topic", "label": label}, "to": f"{name}-route"} for label in ("billing", "outage")]
    stream = {
        "output": f"{name}-out", "dead_letter": f"{name}-dead", "label_set": "labels", "pass_payload": True,
        "pass_headers": ["trace"], "max_value_bytes": MAX_VALUE_BYTES,
    }  # fmt: skip
    return {
        "kafka": {"bootstrap_servers": bootstrap_servers, "group_id": name, "transactional_id": name},
        "delivery": promise,
        "model": {"name": model, "device": "cpu", "dtype": "float32"},
        "label_sets": {"labels": {"facets": facets, "routes": routes, "all_matching": True}},
        "streams": [
            {**stream, "topic": f"{name}-json", "format": "json"},
            {**stream, "topic": f"{name}-text", "format": "text"},
        ],
    }


@pytest.mark.kafka
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("model", "promise"), [("bundled", "at_least_once"), ("fake", "exactly_once")])
def test_every_malformed_record_ends_once(kafka_road: RoadBroker, unique: str, model: str, promise: str) -> None:
    for topic in TOPICS:
        kafka_road.create_topic(f"{unique}-{topic}")
    servers = kafka_road.bootstrap_servers
    last = Malformed("last", b'{"text": "a good one"}', EVENT)
    sent = produce(servers, f"{unique}-json", [*malformed_records(), last])
    in_text = produce(servers, f"{unique}-text", malformed_records())
    with streamer_run(settings(servers, unique, model, promise)) as run:
        run.wait_ready(READY_S)
        run.until_ended(len(sent) + len(in_text), ENDED_S, Console(quiet=True))
        assert run.terminate() == 0

    events = {topic: list(read_all(servers, f"{unique}-{topic}")) for topic in ("out", "route")}
    ids = {topic: [checked_event(message)["id"] for message in messages] for topic, messages in events.items()}
    dead = list(read_all(servers, f"{unique}-dead"))
    inputs = positions(servers, f"{unique}-json") | positions(servers, f"{unique}-text")
    assert inputs == sent.keys() | in_text.keys()
    found = balance(inputs, [*ids["out"], *ids["route"]], map(dead_letter_id, dead))
    assert (found.lost, found.duplicates, found.unknown) == (0, 0, 0)

    ends = dict.fromkeys([*ids["out"], *ids["route"]], EVENT)
    ends |= {dead_letter_id(message): checked_code(message, {**sent, **in_text}) for message in dead}
    wrong = {one.name: (ends[id_], one.ends) for id_, one in sent.items() if one.ends not in (None, ends[id_])}
    assert not wrong


def checked_event(message: Message) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(message.value() or b"")
    EVENTS.validate(event)
    assert event["route"] in (None, message.topic())
    return event


def checked_code(message: Message, sent: dict[str, Malformed]) -> str:
    """A dead letter's code; its key and value are as they came, or it says what they were."""
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    told = {
        name.removeprefix(DEAD_LETTER_HEADER): (value or b"").decode()
        for name, value in headers
        if name.startswith(DEAD_LETTER_HEADER)
    }
    DEAD_LETTERS.validate(told)
    record = sent[dead_letter_id(message)]
    for what, now, then in (("key", message.key(), record.key), ("value", message.value(), record.value)):
        if f"{what}-sha256" in told:
            assert hashlib.sha256(then or b"").hexdigest() == told[f"{what}-sha256"], record.name
        else:
            assert now == then, record.name
    return told["code"]
