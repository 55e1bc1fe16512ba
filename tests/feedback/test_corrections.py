"""What a correction may say, and what is told of one that cannot be used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.feedback.corrections import Corrected, Rules, position_of
from streamer.records import Envelope, Position, Reject
from streamer.schemas import json_schemas

TICKETS = LabelSet(
    "tickets",
    (
        Facet("mood", Kind.SINGLE, (Label("good"), Label("bad"))),
        Facet("topic", Kind.MULTI, (Label("billing"), Label("outage"))),
    ),
)
RULES = Rules(label_set=TICKETS, label_set_of={"tickets.raw": "tickets", "posts.raw": "posts"})
RECORD = Position("tickets.raw", 2, 41)


def read(value: Any, key: bytes | None = None) -> Corrected | Reject:
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return RULES.read(Envelope(Position("corrections", 0, 0), 0, key, (), None, raw, None))


def test_an_id_and_right_labels_are_a_correction_whatever_stands_beside_them() -> None:
    value = {"id": str(RECORD), "labels": {"topic": ["outage", "billing", "outage"]}, "by": "somebody"}
    assert read(value) == Corrected(RECORD, {"topic": ["billing", "outage"]})
    schema = Draft202012Validator(json.loads(json_schemas()["correction.schema.json"]))
    assert schema.is_valid(value)
    assert not schema.is_valid({"id": str(RECORD)})


def test_no_labels_or_no_value_take_corrections_back() -> None:
    assert read({"id": str(RECORD), "labels": {}}) == Corrected(RECORD, {})
    assert read(None, key=b"tickets.raw-2-41") == Corrected(RECORD, {})


def test_of_a_multi_facet_no_label_may_be_right() -> None:
    assert read({"id": str(RECORD), "labels": {"topic": []}}) == Corrected(RECORD, {"topic": []})


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        (None, "null_value", "neither a value nor an id as key"),
        (b"\xff\x00", "malformed", "Invalid JSON"),
        (b"[" * 5000, "malformed", "Invalid JSON"),
        (b'"' + b"x" * 70_000 + b'"', "too_large", "70,002 bytes; a correction has at most 65,536"),
        ([], "malformed", "Input should be an object"),
        ({"labels": {}}, "malformed", "id: Field required"),
        ({"id": 3, "labels": {}}, "malformed", "id: Input should be a valid string"),
        ({"id": "tickets.raw-2-41"}, "malformed", "labels: Field required"),
        ({"id": "x", "labels": {}}, "malformed", "id 'x' is no topic-partition-offset"),
        ({"id": "a-1-99999999999999999999", "labels": {}}, "malformed", "is no topic-partition-offset"),
        ({"id": "t-0-1", "labels": {"mood": "good"}}, "malformed", "labels.mood: Input should be a valid array"),
        ({"id": "t-0-1", "labels": {"mood": [1]}}, "malformed", "labels.mood.0: Input should be a valid string"),
        ({"id": "t-0-1", "labels": {}}, "unknown_topic", "no stream of the settings reads 't'"),
        ({"id": "posts.raw-0-1", "labels": {}}, "other_label_set", "'posts.raw' is labelled by 'posts'"),
        ({"id": str(RECORD), "labels": {"tpic": []}}, "unknown_facet", "no facet 'tpic' (did you mean 'topic'?)"),
        (
            {"id": str(RECORD), "labels": {"topic": ["biling"]}},
            "unknown_label",
            "facet 'topic' has no label 'biling' (did you mean 'billing'?)",
        ),
        ({"id": str(RECORD), "labels": {"mood": []}}, "not_one_label", "facet 'mood' is single, and 0 labels"),
        ({"id": str(RECORD), "labels": {"mood": ["bad", "good"]}}, "not_one_label", "and 2 labels are given"),
        ({"id": "\x1b[31m", "labels": {}}, "malformed", r"id '\x1b[31m' is no"),
    ],
)
def test_what_cannot_be_used_is_told_by_a_code_and_a_line(value: Any, code: str, message: str) -> None:
    found = read(value)
    assert isinstance(found, Reject)
    assert found.code == code
    assert message in found.message
    assert len(found.message) < 300


def test_a_topic_may_hold_dashes_and_numbers() -> None:
    assert position_of("a-1-2-3-4") == Position("a-1-2", 3, 4)
    assert position_of("a-1") is None
    assert position_of("a b-1-2") is None
