"""What a shadow event says, and when two verdicts agree."""

from __future__ import annotations

import jsonschema
import orjson

from streamer.engine.base import ModelInfo
from streamer.records import FacetVerdict, Position, Verdict
from streamer.shadow.event import Case, ShadowEvent, agreement, shadow_event
from tests.shadow.conftest import NEXT_LABELS, ROAD_LABELS, ROAD_MODEL, road_verdict

EVENT = jsonschema.Draft202012Validator(ShadowEvent.model_json_schema())


def verdict(*labels: str, abstained: bool = False) -> Verdict:
    facets = (
        FacetVerdict("mood", labels, {"bad": 0.3, "good": 0.7}, abstained),
        FacetVerdict("urgency", ("low",), {"low": 0.9, "high": 0.1}, False),
    )
    return Verdict(facets, (), NEXT_LABELS, truncated=True)


def test_facets_of_both_agree_or_not() -> None:
    assert agreement(road_verdict("good"), verdict("good")) == {"mood": True}
    assert agreement(road_verdict("good"), verdict("bad")) == {"mood": False}
    assert agreement(road_verdict("good"), verdict(abstained=True)) == {"mood": False}
    assert agreement(verdict(), verdict(abstained=True)) == {"mood": False, "urgency": True}


def test_the_event_names_label_set_and_model_of_both() -> None:
    case = Case(Position("tickets", 3, 7), b"key", 1_600_000_000_000, "the text", road_verdict())
    other = ModelInfo("next", "def", "cpu", "float32", 100)
    message = shadow_event(
        case, verdict("good"), {"mood": True}, model=other, road_model=ROAD_MODEL, topic="side", now_ms=5
    )
    assert (message.topic, message.key, message.timestamp_ms) == ("side", b"key", None)
    event = orjson.loads(message.value or b"")
    EVENT.validate(event)
    assert event["id"] == "tickets-3-7"
    assert event["source"] == {"topic": "tickets", "partition": 3, "offset": 7, "timestamp_ms": 1_600_000_000_000}
    assert event["shadow"]["model"] == {"name": "next", "revision": "def"}
    assert event["shadow"]["label_set"] == {"name": "tickets-next", "version": NEXT_LABELS.version}
    assert event["shadow"]["facets"]["mood"] == {
        "labels": ["good"],
        "scores": {"bad": 0.3, "good": 0.7},
        "abstained": False,
    }
    assert event["shadow"]["truncated"] is True
    assert event["road"]["model"] == {"name": "small", "revision": "abc"}
    assert event["road"]["label_set"] == {"name": "tickets", "version": ROAD_LABELS.version}
    assert event["road"]["facets"]["topic"] == {"labels": ["billing"], "abstained": False}
    assert event["agreed"] == {"mood": True}
    assert b"the text" not in (message.value or b"")
