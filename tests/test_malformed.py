"""Whatever is sent in ends exactly once, as an event or as a dead letter, and the loop goes on."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from threading import Event

import jsonschema
import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamer.app import build_classifier
from streamer.decode import Decoder
from streamer.delivery import AtLeastOnce, Delivery
from streamer.encode import DEAD_LETTER_HEADER, Encoder
from streamer.engine.base import Classifier, ModelInfo
from streamer.engine.fake import FakeClassifier
from streamer.events import DeadLetterHeaders, LabelledEvent
from streamer.facets import Facet, Kind, Label, LabelSet, Route
from streamer.gather import Gather
from streamer.observe import Observer
from streamer.pipeline import Pipeline
from streamer.records import Envelope, Position, Stream, Verdict
from streamer.settings import build_model_settings
from streamer.traces import NO_TRACES
from streamer.transactions import ExactlyOnce
from streamer.transport.memory import MemorySink, MemorySource
from streamer.transport.memory_broker import MemoryBroker, Stored
from streamer.transport.memory_transactions import MemoryTransactionalSink
from tests.malformed import EVENT, MAX_VALUE_BYTES, Malformed, malformed_records

MAX_MESSAGE_BYTES = 1_048_588  # what a Kafka topic takes by default
MAX_DEAD_LETTER_BYTES = 900_000
LABELS = LabelSet(
    "labels",
    (
        Facet("mood", Kind.SINGLE, (Label("bad"), Label("good")), min_margin=0.05),
        Facet("topic", Kind.MULTI, (Label("billing"), Label("outage"))),
    ),
    routes=(
        Route("topic", "outage", 0.5, "urgent"),
        Route("mood", "bad", 0.5, "urgent"),
        Route("mood", "good", 0, "x"),
    ),
    all_matching=True,
)
EVENTS = jsonschema.Draft202012Validator(LabelledEvent.model_json_schema())
DEAD_LETTERS = jsonschema.Draft202012Validator(DeadLetterHeaders.model_json_schema())


def stream(topic: str) -> Stream:
    return Stream(
        topic=topic, output="out", dead_letter="dead", label_set="labels", text=("/text",), parse_json=topic == "json",
        pass_payload=True, pass_headers=frozenset({"trace"}), all_scores=True, keep_timestamp=True,
        max_value_bytes=MAX_VALUE_BYTES, weight=1,
    )  # fmt: skip


class Until(Observer):
    """Stops the loop once so many records have ended, or when it goes round too often."""

    def __init__(self, expected: int, timeout_s: float) -> None:
        self.stop = Event()
        self._left = expected
        self._deadline_s = time.monotonic() + timeout_s

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self._ended(len(latencies_s))

    def dead_lettered(self, topic: str, records: int) -> None:
        self._ended(records)

    def _ended(self, records: int) -> None:
        self._left -= records
        if not self._left:
            self.stop.set()

    def beat(self, stage: str) -> None:
        assert time.monotonic() < self._deadline_s, f"{self._left} records have not ended"


class Road:
    """A JSON and a text stream on a memory broker, and what became of every record."""

    def __init__(self, promise: str = "at_least_once") -> None:
        self._promise = promise
        self._broker = MemoryBroker(partitions=3, max_message_bytes=MAX_MESSAGE_BYTES, now_ms=lambda: 1_700_000_000_000)
        for topic in ("json", "text"):
            self._broker.create_topic(topic)
        self.sent: dict[str, Malformed] = {}

    def send(self, topic: str, record: Malformed) -> str:
        position = self._broker.produce(topic, record.value, key=record.key, headers=record.headers)
        self.sent[str(position)] = record
        return str(position)

    def run(self, classifier: Classifier, timeout_s: float = 200.0) -> None:
        streams = {topic: stream(topic) for topic in ("json", "text")}
        watch = Until(len(self.sent), timeout_s)
        source = MemorySource(broker=self._broker, group_id="g", topics=list(streams), auto_offset_reset="earliest")
        pipeline = Pipeline(
            source=source,
            delivery=self._delivery(source, watch),
            classifier=classifier,
            decoder=Decoder(streams=streams, label_sets={"labels": LABELS}),
            gather=Gather(weights=dict.fromkeys(streams, 1), max_records=16, max_bytes=2_000_000, max_wait_s=0.0),
            encoder=Encoder(model=classifier.describe(), max_dead_letter_bytes=MAX_DEAD_LETTER_BYTES),
            streams=streams,
            observer=watch,
            traces=NO_TRACES,
            reload=lambda: None,
            poll_records=16,
            window_s=0.25,
            max_uncommitted_records=200,
            drain_timeout_s=10.0,
        )
        pipeline.run(watch.stop)

    def _delivery(self, source: MemorySource, observer: Observer) -> Delivery:
        if self._promise == "at_least_once":
            return AtLeastOnce(
                source=source, sink=MemorySink(broker=self._broker), observer=observer, commit_interval_s=0.01,
                clock=time.monotonic, sleep=time.sleep,
            )  # fmt: skip
        return ExactlyOnce(
            source=source, sink=MemoryTransactionalSink(broker=self._broker, looks=3), observer=observer,
            commit_interval_s=0.01, most_bytes=10**6, longest_s=2.0, recover_s=30.0, clock=time.monotonic,
        )  # fmt: skip

    def ends(self) -> dict[str, str]:
        """How every record ended: EVENT or its code. Fails where a message is not as it should be, where a record
        ended twice or not at all, and where the committed offsets are not behind them all."""
        ends: dict[str, str] = {}
        routed: Counter[tuple[str, str]] = Counter()
        for topic in ("out", "urgent", "x"):
            for stored in self._broker.messages(topic).values():
                event = orjson.loads(stored.value or b"")
                EVENTS.validate(event)
                assert event["route"] == (None if topic == "out" else topic)
                assert stored.key == self.sent[event["id"]].key
                ends[event["id"]] = EVENT
                routed[event["id"], topic] += 1
        assert set(routed.values()) <= {1}, "an event twice in a topic"
        for stored in self._broker.messages("dead").values():
            told = told_by(stored)
            id_ = f"{told['topic']}-{told['partition']}-{told['offset']}"
            assert id_ not in ends, f"{id_} ended twice"
            assert_as_it_came(stored, told, self.sent[id_])
            ends[id_] = told["code"]
        assert ends.keys() == self.sent.keys()
        for topic in ("json", "text"):
            for at in self._broker.partitions(topic):
                assert (self._broker.committed("g", at) or 0) == len(self._broker.log(at))
        return ends


def told_by(stored: Stored) -> dict[str, str]:
    ours = [header for header in stored.headers if header[0].startswith(DEAD_LETTER_HEADER)]
    told = {name.removeprefix(DEAD_LETTER_HEADER): (value or b"").decode() for name, value in ours}
    assert len(told) == len(ours)
    DEAD_LETTERS.validate(told)
    return told


def assert_as_it_came(stored: Stored, told: dict[str, str], sent: Malformed) -> None:
    """A dead letter holds the input, or says what it lacks of it."""
    for what, now, then in (("key", stored.key, sent.key), ("value", stored.value, sent.value)):
        if f"{what}-sha256" in told:
            assert then is not None
            assert (told[f"{what}-bytes"], told[f"{what}-sha256"]) == (str(len(then)), hashlib.sha256(then).hexdigest())
            assert then.startswith(now or b"")
        else:
            assert now == then
    foreign = [header for header in sent.headers if not header[0].startswith(DEAD_LETTER_HEADER)]
    kept = [header for header in stored.headers if not header[0].startswith(DEAD_LETTER_HEADER)]
    assert kept == foreign[: len(kept)]
    assert len(foreign) - len(kept) == int(told.get("headers-left-out", "0"))


def send_all(road: Road, *, as_text_too: bool) -> dict[str, str]:
    """Every record of the list to the JSON stream, perhaps to the text stream as well, and a good one last; the ids
    that must end in a known way."""
    known = {}
    for record in malformed_records():
        id_ = road.send("json", record)
        if record.ends is not None:
            known[id_] = record.ends
        if as_text_too:
            road.send("text", record)
    last = Malformed("last", b'{"text": "a good one"}', EVENT)
    known[road.send("json", last)] = EVENT
    return known


def assert_all_ended_well(road: Road, known: dict[str, str]) -> None:
    ends = road.ends()
    wrong = {road.sent[id_].name: (ends[id_], wanted) for id_, wanted in known.items() if ends[id_] != wanted}
    assert not wrong


@pytest.fixture
def fake() -> Iterator[Callable[[], Classifier]]:
    opened: list[Classifier] = []

    def open_() -> Classifier:
        opened.append(FakeClassifier(window_tokens=200, max_tokens=20_000, window_s=0, record_s=0))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


def test_the_list_is_long_and_every_name_its_own() -> None:
    records = malformed_records()
    assert len(records) == len({record.name for record in records}) >= 200


@pytest.mark.parametrize("promise", ["at_least_once", "exactly_once"])
def test_every_malformed_record_ends_once(promise: str, fake: Callable[[], Classifier]) -> None:
    road = Road(promise)
    known = send_all(road, as_text_too=True)
    road.run(fake())
    assert_all_ended_well(road, known)


@pytest.mark.timeout(240)  # 15 s on one quiet core
def test_the_bundled_model_reads_every_malformed_text() -> None:
    """Its own tokenizer and weights: no text stops it, and scores are numbers."""
    road = Road()
    known = send_all(road, as_text_too=False)
    model = build_model_settings({"name": "bundled", "device": "cpu", "dtype": "float32"})
    classifier = build_classifier(model, max_tokens="auto")
    try:
        classifier.warm_up([LABELS])
        road.run(classifier)
    finally:
        classifier.close()
    assert_all_ended_well(road, known)


TEXTS = st.text(max_size=80) | st.lists(
    st.sampled_from(
        ["<<LABEL>>", "<<SEP>>", "[CLS]", "[SEP]", "[MASK]", "<|", "|>", "\x00", "\x1b[", "\u202e", "\u200b", "\ufeff",
         " ", "a", "😀", "\u0301", "\ud800", "\n"]
    ),
    max_size=20,
).map("".join)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.just("text"), inner, max_size=4),
    max_leaves=8,
)


def as_json(value: object) -> bytes:
    """JSON as careless writers make it: NaN and lone surrogates included."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """JSON with some bytes cut out, doubled or put in."""
    value = draw(st.builds(as_json, st.fixed_dictionaries({"text": TEXTS}, optional={"more": VALUES})))
    at = draw(st.integers(0, len(value)))
    end = draw(st.integers(at, min(len(value), at + 5)))
    return value[:at] + draw(st.binary(max_size=5)) + value[draw(st.sampled_from([at, end])) :]


RECORDS = st.builds(
    lambda value, key, headers: Malformed("any", value, None, key, headers),
    st.none()
    | st.binary(max_size=100)
    | damaged()
    | VALUES.map(as_json)
    | VALUES.map(lambda value: as_json({"text": value}))
    | TEXTS.map(lambda text: text.encode("utf-16", "surrogatepass")),
    st.none() | st.binary(max_size=20),
    st.lists(
        st.tuples(
            st.sampled_from(["trace", "", DEAD_LETTER_HEADER + "code"])
            | st.text(st.characters(codec="utf-8"), max_size=9),
            st.none() | st.binary(max_size=20),
        ),
        max_size=3,
    ).map(tuple),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["json", "text"]), RECORDS), min_size=1, max_size=25))
def test_whatever_comes_in_ends_once(records: list[tuple[str, Malformed]]) -> None:
    road = Road()
    for topic, record in records:
        road.send(topic, record)
    classifier = FakeClassifier(window_tokens=50, max_tokens=5000, window_s=0, record_s=0)
    try:
        road.run(classifier)
    finally:
        classifier.close()
    road.ends()


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_what_is_passed_on_can_be_read_again(value: object) -> None:
    """A record that is labelled makes an event that is JSON again, whatever it brought along."""
    written = as_json({"text": "a", "more": value})
    try:
        brought = orjson.loads(written)
    except orjson.JSONDecodeError:
        assume(False)
    verdict = Verdict((), (), LABELS, False)
    envelope = Envelope(Position("json", 0, 0), 0, None, (), None, written, verdict)
    model = ModelInfo("fake", "none", "cpu", "float32", 100)
    (message,) = Encoder(model=model, max_dead_letter_bytes=0).events(stream("json"), envelope, 1)
    assert orjson.loads(message.value or b"")["payload"] == brought
