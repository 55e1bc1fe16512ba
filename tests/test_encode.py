"""Events and dead letters as they are published."""

from __future__ import annotations

import hashlib

import jsonschema
import orjson
import pytest

from streamer.encode import DEAD_LETTER_HEADER, MAX_HEAD_BYTES, Encoder
from streamer.engine.base import ModelInfo
from streamer.events import DeadLetterHeaders, LabelledEvent
from streamer.facets import Calibration, Facet, Kind, Label, LabelSet
from streamer.records import Envelope, FacetVerdict, Headers, Outbound, Position, Reject, Stream, Verdict

LABELS = LabelSet("l", (Facet("mood", Kind.SINGLE, (Label("bad"), Label("good"))),))
ENCODER = Encoder(model=ModelInfo("bundled", "abc", "cpu", "float32", 512), max_dead_letter_bytes=20)


def stream(*, pass_payload: bool = False, all_scores: bool = True, keep_timestamp: bool = True) -> Stream:
    return Stream(
        topic="in", output="out", dead_letter="dead", label_set="l", text=("/text",), parse_json=True,
        pass_payload=pass_payload, pass_headers=frozenset({"trace"}), all_scores=all_scores,
        keep_timestamp=keep_timestamp, max_value_bytes=1000, weight=1,
    )  # fmt: skip


def verdict(*routes: str) -> Envelope[Verdict]:
    facet = FacetVerdict("mood", ("good",), {"bad": 0.1234, "good": 0.8766}, False)
    headers = (("trace", b"1"), ("other", b"2"), ("trace", None))
    return Envelope(
        Position("in", 3, 7), 1, b"key", headers, 1700, b'{"text": "hi"}', Verdict((facet,), routes, LABELS, False)
    )


def test_event() -> None:
    (message,) = ENCODER.events(stream(), verdict(), 1800)
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


def test_an_event_names_the_calibration_of_its_label_set() -> None:
    calibrated = LabelSet("l", LABELS.facets, calibration=Calibration("0123456789abcdef", "abc"))
    envelope = verdict()
    (message,) = ENCODER.events(stream(), envelope.replace(envelope.payload._replace(label_set=calibrated)), 1800)
    event = orjson.loads(message.value or b"")
    assert event["calibration"] == "0123456789abcdef"
    assert event["label_set"]["version"] == calibrated.version != LABELS.version
    jsonschema.validate(event, LabelledEvent.model_json_schema())


def test_options() -> None:
    one = stream(pass_payload=True, all_scores=False, keep_timestamp=False)
    (message,) = ENCODER.events(one, verdict("urgent"), 1800)
    event = orjson.loads(message.value or b"")
    assert message.topic == event["route"] == "urgent"
    assert message.timestamp_ms is None
    assert event["payload"] == {"text": "hi"}
    assert event["facets"]["mood"]["scores"] == {"good": 0.8766}
    jsonschema.validate(event, LabelledEvent.model_json_schema())


def test_several_routes_get_a_copy_each_that_differs_in_its_route_alone() -> None:
    one = stream(pass_payload=True)
    copies = ENCODER.events(one, verdict("urgent", "ops", "archive"), 1800)
    (single,) = ENCODER.events(one, verdict("urgent"), 1800)
    assert copies[0] == single
    assert [copy.topic for copy in copies] == ["urgent", "ops", "archive"]
    for copy in copies:
        event = orjson.loads(copy.value or b"")
        assert event.pop("route") == copy.topic
        assert event == {name: value for name, value in orjson.loads(single.value or b"").items() if name != "route"}
        assert (copy.key, copy.headers, copy.timestamp_ms) == (single.key, single.headers, single.timestamp_ms)


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


def dead(envelope: Envelope[Reject]) -> tuple[Outbound, dict[str, str]]:
    """A dead letter, and what its headers tell."""
    message = ENCODER.dead_letter(stream(), envelope)
    ours = [(name, value) for name, value in message.headers if name.startswith(DEAD_LETTER_HEADER)]
    told = {name.removeprefix(DEAD_LETTER_HEADER): (value or b"").decode() for name, value in ours}
    assert len(told) == len(ours)
    jsonschema.validate(told, DeadLetterHeaders.model_json_schema())
    return message, told


def size(message: Outbound) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in message.headers)
    return len(message.key or b"") + len(message.value or b"") + headers


HUGE = 200_000
ROOM = MAX_HEAD_BYTES + 20


@pytest.mark.parametrize(
    ("key", "headers", "value", "left"),
    [
        (b"k" * HUGE, (), b"v", (ROOM, 0, 0)),
        (b"k", (("h", b"x" * HUGE),), b"v" * 21, (1, 0, 20)),
        (b"k", (("small", b"x"), ("big", b"x" * HUGE), ("after", None)), b"v", (1, 1, 1)),
        (b"k", tuple((f"{i:05}", None) for i in range(HUGE // 15)), b"v", (1, (ROOM - 1) // 15, 1)),
        (b"k" * (ROOM - 5), (), b"v" * 21, (ROOM - 5, 0, 5)),
        (None, (), b"v" * HUGE, (0, 0, 20)),
        (b"k" * 60_000, (("h", b"x" * 5000),), b"v" * 20, (60_000, 1, 20)),
    ],
)
def test_a_dead_letter_is_bounded_as_a_whole(
    key: bytes | None, headers: Headers, value: bytes, left: tuple[int, int, int]
) -> None:
    envelope = Envelope(Position("in", 3, 7), 1, key, headers, 5, value, Reject("output_refused", "too large"))
    message, told = dead(envelope)
    assert size(message) <= ROOM + 500
    kept = [header for header in message.headers if not header[0].startswith(DEAD_LETTER_HEADER)]
    assert (len(message.key or b""), len(kept), len(message.value or b"")) == left
    assert tuple(kept) == headers[: len(kept)]
    assert (message.key is None) is (key is None)
    assert ("key-sha256" in told, "value-sha256" in told) == (left[0] < len(key or b""), left[2] < len(value))
    if "key-sha256" in told:
        assert told["key-sha256"] == hashlib.sha256(key or b"").hexdigest()
        assert told["key-bytes"] == str(len(key or b""))
    assert told.get("headers-left-out", "0") == str(len(headers) - left[1])


def test_headers_of_an_earlier_dead_letter_are_not_taken_for_this_ones() -> None:
    old = ((DEAD_LETTER_HEADER + "code", b"null_value"), ("a", b"b"), (DEAD_LETTER_HEADER + "value-bytes", b"9"))
    message, told = dead(Envelope(Position("in", 3, 7), 1, None, old, 5, b"{", Reject("not_json", "why")))
    assert told["code"] == "not_json"
    assert "value-bytes" not in told
    assert message.headers[0] == ("a", b"b")


def test_a_dead_letter_is_stamped_with_the_time_of_sending() -> None:
    """The input's own time may be the very thing that the broker refuses."""
    message, told = dead(Envelope(Position("in", 3, 7), 1, None, (), 99, b"{", Reject("output_refused", "too old")))
    assert message.timestamp_ms is None
    assert told["timestamp-ms"] == "99"
