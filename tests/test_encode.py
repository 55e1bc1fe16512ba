"""Events and dead letters as they are published."""

from __future__ import annotations

import hashlib

import jsonschema
import orjson
import pytest

from streamer.encode import DEAD_LETTER_HEADER, Encoder
from streamer.engine.base import ModelInfo
from streamer.events import DeadLetterHeaders, LabelledEvent
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Envelope, FacetVerdict, Position, Reject, Stream, Verdict

LABELS = LabelSet("l", (Facet("mood", Kind.SINGLE, (Label("bad"), Label("good"))),))
ENCODER = Encoder(model=ModelInfo("bundled", "abc", "cpu", "float32", 512), max_dead_letter_bytes=20)


def stream(*, pass_payload: bool = False, all_scores: bool = True, keep_timestamp: bool = True) -> Stream:
    return Stream(
        topic="in", output="out", dead_letter="dead", label_set="l", text=("/text",), parse_json=True,
        pass_payload=pass_payload, pass_headers=frozenset({"trace"}), all_scores=all_scores,
        keep_timestamp=keep_timestamp, max_value_bytes=1000, weight=1,
    )  # fmt: skip


def verdict(route: str | None = None) -> Envelope[Verdict]:
    facet = FacetVerdict("mood", ("good",), {"bad": 0.12344, "good": 0.87656}, False)
    headers = (("trace", b"1"), ("other", b"2"), ("trace", None))
    return Envelope(
        Position("in", 3, 7), 1, b"key", headers, 1700, b'{"text": "hi"}', Verdict((facet,), route, LABELS, False)
    )


def test_event() -> None:
    message = ENCODER.event(stream(), verdict(), 1800)
    assert (message.topic, message.key, message.timestamp_ms, message.dead_letter) == ("out", b"key", 1700, False)
    assert message.headers == (("trace", b"1"), ("trace", None))
    event = orjson.loads(message.value or b"")
    assert event == {
        "schema_version": 1,
        "id": "in-3-7",
        "source": {"topic": "in", "partition": 3, "offset": 7, "timestamp_ms": 1700},
        "facets": {"mood": {"labels": ["good"], "scores": {"bad": 0.1234, "good": 0.8766}, "abstained": False}},
        "route": None,
        "label_set": {"name": "l", "version": LABELS.version},
        "model": {"name": "bundled", "revision": "abc"},
        "calibration": None,
        "truncated": False,
        "classified_at_ms": 1800,
    }
    jsonschema.validate(event, LabelledEvent.model_json_schema())


def test_options() -> None:
    message = ENCODER.event(stream(pass_payload=True, all_scores=False, keep_timestamp=False), verdict("urgent"), 1800)
    event = orjson.loads(message.value or b"")
    assert message.topic == event["route"] == "urgent"
    assert message.timestamp_ms is None
    assert event["payload"] == {"text": "hi"}
    assert event["facets"]["mood"]["scores"] == {"good": 0.8766}
    jsonschema.validate(event, LabelledEvent.model_json_schema())


@pytest.mark.parametrize("value", [None, b"not json", b"x" * 21])
def test_dead_letter(value: bytes | None) -> None:
    envelope = Envelope(Position("in", 3, 7), 1, b"key", (("a", None),), 5, value, Reject("not_json", "ümlaut"))
    message = ENCODER.dead_letter(stream(), envelope)
    assert (message.topic, message.key, message.dead_letter) == ("dead", b"key", True)
    assert message.value == (value[:20] if value else None)
    assert message.headers[0] == ("a", None)
    added = {name.removeprefix(DEAD_LETTER_HEADER): (v or b"").decode() for name, v in message.headers[1:]}
    assert added["code"] == "not_json"
    assert added["message"] == "ümlaut"
    assert (added["topic"], added["partition"], added["offset"]) == ("in", "3", "7")
    assert (added["timestamp-ms"], added["label-set"]) == ("5", "l")
    cut = value is not None and len(value) > 20
    assert ("value-sha256" in added) is cut
    if cut:
        assert added["value-sha256"] == hashlib.sha256(value or b"").hexdigest()
        assert added["value-bytes"] == "21"
    jsonschema.validate(added, DeadLetterHeaders.model_json_schema())
