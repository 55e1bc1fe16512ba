"""The loop on the in-memory broker and the deterministic engine: what becomes of every record."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.decode import Decoder
from streamer.delivery import AtLeastOnce, Delivery
from streamer.encode import DEAD_LETTER_HEADER, Encoder
from streamer.engine.fake import FakeClassifier
from streamer.errors import DeliveryError, FatalError, TransientError
from streamer.events import LabelledEvent
from streamer.facets import Facet, Kind, Label, LabelSet, Route
from streamer.gather import Gather
from streamer.observe import Observer
from streamer.pipeline import Pipeline
from streamer.records import Outbound, Position, Stream
from streamer.traces import NO_TRACES
from streamer.transactions import ExactlyOnce
from streamer.transport.base import DeliveryOutcome, Refused
from streamer.transport.memory import MemorySink, MemorySource
from streamer.transport.memory_broker import MemoryBroker, Step, Stored
from streamer.transport.memory_transactions import MemoryTransactionalSink

GROUP = "g"
FACETS = (
    Facet("mood", Kind.SINGLE, (Label("bad"), Label("good"))),
    Facet("topic", Kind.MULTI, (Label("billing"), Label("outage"))),
)
LABEL_SETS = {
    "tickets": LabelSet("tickets", FACETS, routes=(Route("topic", "outage", 0.9, "tickets.urgent"),)),
    "posts": LabelSet("posts", FACETS[:1]),
}
BOTH = pytest.mark.parametrize("promise", ["at_least_once", "exactly_once"])
EVENT = jsonschema.Draft202012Validator(LabelledEvent.model_json_schema())


def stream(name: str) -> Stream:
    return Stream(
        topic=name, output=f"{name}.out", dead_letter=f"{name}.dead", label_set=name, text=("/text",), parse_json=True,
        pass_payload=True, pass_headers=frozenset({"trace"}), all_scores=True, keep_timestamp=True,
        max_value_bytes=5000, weight=1,
    )  # fmt: skip


def accept(message: Outbound) -> DeliveryOutcome:
    return None


class Watch(Observer):
    """Counts, and stops the loop once `expected` records have ended."""

    def __init__(self, expected: int) -> None:
        self.stop = Event()
        self.counts: Counter[str] = Counter()
        self.most_paused = 0
        self._expected = expected
        self._deadline_s = time.monotonic() + 40
        self._ended(0)

    def _ended(self, more: int) -> None:
        self.counts["ended"] += more
        if self.counts["ended"] >= self._expected:
            self.stop.set()

    def beat(self, stage: str) -> None:
        assert time.monotonic() < self._deadline_s, "the loop does not come to an end"

    def consumed(self, topic: str, records: int) -> None:
        self.counts["consumed"] += records

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self._ended(len(latencies_s))

    def dead_lettered(self, topic: str, records: int) -> None:
        self._ended(records)

    def paused(self, topics: Any) -> None:
        self.most_paused = max(self.most_paused, len(topics))


@dataclass
class Road:
    """Two streams on a memory broker, and everything a test may turn."""

    promise: str = "at_least_once"
    deliver: Callable[[Outbound], DeliveryOutcome] = accept
    engine: dict[str, Any] = field(default_factory=dict)
    max_uncommitted_records: int = 1000
    max_records: int = 8

    def __post_init__(self) -> None:
        self.broker = MemoryBroker(
            partitions=3, max_message_bytes=20_000, now_ms=lambda: 1_700_000_000_000, deliver=lambda m: self.deliver(m)
        )
        for topic in ("tickets", "posts"):
            self.broker.create_topic(topic)

    def produce(self, *values: bytes | None, topic: str = "tickets", key: bytes | None = None) -> list[Position]:
        return [self.broker.produce(topic, value, key=key, headers=(("trace", b"1"),)) for value in values]

    def pipeline(self, observer: Observer) -> Pipeline:
        streams = {name: stream(name) for name in LABEL_SETS}
        values: dict[str, Any] = {"window_tokens": 100, "max_tokens": 4000, "window_s": 0.0, "record_s": 0.0}
        self.classifier = FakeClassifier(**{**values, **self.engine})
        self.source = MemorySource(
            broker=self.broker, group_id=GROUP, topics=list(streams), auto_offset_reset="earliest"
        )
        return Pipeline(
            source=self.source,
            delivery=self.delivery(observer),
            classifier=self.classifier,
            decoder=Decoder(streams=streams, label_sets=LABEL_SETS),
            gather=Gather(
                weights=dict.fromkeys(streams, 1), max_records=self.max_records, max_bytes=10_000, max_wait_s=0.0
            ),
            encoder=Encoder(model=self.classifier.describe(), max_dead_letter_bytes=8000),
            streams=streams,
            observer=observer,
            traces=NO_TRACES,
            reload=lambda: None,
            poll_records=16,
            window_s=0.25,
            max_uncommitted_records=self.max_uncommitted_records,
            drain_timeout_s=10.0,
        )

    def delivery(self, observer: Observer) -> Delivery:
        if self.promise == "at_least_once":
            return AtLeastOnce(
                source=self.source, sink=MemorySink(broker=self.broker), observer=observer, commit_interval_s=0.01,
                clock=time.monotonic, sleep=time.sleep,
            )  # fmt: skip
        self.sink = MemoryTransactionalSink(broker=self.broker, looks=3)
        return ExactlyOnce(
            source=self.source,
            sink=self.sink,
            observer=observer,
            commit_interval_s=0.01,
            most_bytes=10**6,
            longest_s=2.0,
            recover_s=5.0,
            clock=time.monotonic,
        )

    def run(self, expected: int) -> Watch:
        watch = Watch(expected)
        pipeline = self.pipeline(watch)
        try:
            pipeline.run(watch.stop)
        finally:
            self.classifier.close()
        return watch

    def events(self, topic: str) -> dict[str, dict[str, Any]]:
        """Events by id; the same id twice is a duplicate."""
        out: dict[str, dict[str, Any]] = {}
        for stored in self.broker.messages(topic).values():
            event = orjson.loads(stored.value or b"")
            EVENT.validate(event)
            assert event["id"] not in out
            out[event["id"]] = event
        return out

    def dead(self, topic: str) -> dict[str, str]:
        """Source position -> code."""
        return {where(stored): header(stored, "code") for stored in self.broker.messages(topic).values()}

    def committed(self, topic: str) -> dict[int, int | None]:
        return {at.partition: self.broker.committed(GROUP, at) for at in self.broker.partitions(topic)}


def header(stored: Stored, name: str) -> str:
    return dict(stored.headers)[DEAD_LETTER_HEADER + name].decode()  # type: ignore[union-attr]


def where(stored: Stored) -> str:
    return "-".join(header(stored, name) for name in ("topic", "partition", "offset"))


def text(words: str) -> bytes:
    return orjson.dumps({"text": words})


@BOTH
def test_every_record_ends_once_and_everything_is_committed(promise: str) -> None:
    one = Road(promise)
    good = one.produce(*[text(f"ticket {i}") for i in range(50)])
    bad = one.produce(None, b"{", text(" "), b'{"text": 4}', b"x" * 6000)
    posts = one.produce(*[text(f"post {i}") for i in range(30)], topic="posts", key=b"k")
    watch = one.run(85)
    out = one.events("tickets.out") | one.events("tickets.urgent")
    assert set(out) == {str(position) for position in good}
    assert one.events("tickets.urgent"), "the fake engine gives some scores above .9"
    codes = {str(p): c for p, c in zip(bad, ["null_value", "not_json", "no_text", "text_not_string", "value_too_large"],
                                       strict=True)}  # fmt: skip
    assert one.dead("tickets.dead") == codes
    assert set(one.events("posts.out")) == {str(position) for position in posts}
    for topic in ("tickets", "posts"):
        for at in one.broker.partitions(topic):
            assert (one.committed(topic)[at.partition] or 0) == len(one.broker.log(at))
    assert watch.counts["consumed"] == 85


def test_events_carry_what_their_record_was_scored_with() -> None:
    one = Road()
    one.produce(text("a ticket"))
    one.produce(text("a post"), topic="posts", key=b"me")
    one.run(2)
    (event,) = (one.events("tickets.out") | one.events("tickets.urgent")).values()
    assert event["label_set"] == {"name": "tickets", "version": LABEL_SETS["tickets"].version}
    assert event["payload"] == {"text": "a ticket"}
    assert set(event["facets"]) == {"mood", "topic"}
    (stored,) = one.broker.messages("posts.out").values()
    assert (stored.key, stored.headers, stored.timestamp_ms) == (b"me", (("trace", b"1"),), 1_700_000_000_000)
    assert orjson.loads(stored.value or b"")["label_set"]["version"] == LABEL_SETS["posts"].version


@BOTH
def test_order_holds_per_key(promise: str) -> None:
    one = Road(promise, max_records=5)
    sent = one.produce(*[text(f"{i} " * (i % 7 + 1)) for i in range(60)], topic="posts", key=b"same")
    one.run(60)
    assert list(one.events("posts.out")) == [str(position) for position in sent]


def test_text_beyond_the_window_is_labelled_and_says_so() -> None:
    one = Road()
    one.produce(text("word " * 200), topic="posts")
    one.run(1)
    (event,) = one.events("posts.out").values()
    assert event["truncated"] is True


@BOTH
def test_a_refused_output_becomes_a_dead_letter(promise: str) -> None:
    def deliver(message: Outbound) -> DeliveryOutcome:
        return Refused("too large") if not message.dead_letter and b"poison" in (message.value or b"") else None

    one = Road(promise, deliver=deliver)
    sent = one.produce(text("fine"), text("poison"), text("also fine"), topic="posts", key=b"k")
    one.run(3)
    assert one.dead("posts.dead") == {str(sent[1]): "output_refused"}
    assert set(one.events("posts.out")) == {str(sent[0]), str(sent[2])}
    assert max(offset or 0 for offset in one.committed("posts").values()) == 3


@pytest.mark.parametrize("kind", ["refused dead letter", "lost output"])
@BOTH
def test_what_cannot_be_delivered_stops_the_process_with_nothing_committed(promise: str, kind: str) -> None:
    def deliver(message: Outbound) -> DeliveryOutcome:
        if kind == "lost output":
            return DeliveryError("the broker lost it") if b"poison" in (message.value or b"") else None
        return Refused("no room") if message.dead_letter else None

    one = Road(promise, deliver=deliver)
    value = text("poison") if kind == "lost output" else b"not json"
    one.produce(value, text("later"), topic="posts", key=b"k")
    with pytest.raises(DeliveryError, match="refused by topic 'posts.dead'" if "dead" in kind else "lost it"):
        one.run(2)
    assert set(one.committed("posts").values()) == {None}


@BOTH
def test_a_failing_model_stops_the_process_and_commits_only_what_ended_before(promise: str) -> None:
    one = Road(promise, engine={"failing": ["text that breaks it"]}, max_records=1)
    one.produce(*[text(f"fine {i}") for i in range(3)], text("text that breaks it"), topic="posts", key=b"k")
    with pytest.raises(FatalError, match="fake device failed"):
        one.run(4)
    assert max(offset or 0 for offset in one.committed("posts").values()) <= 3


@BOTH
def test_a_record_too_much_for_the_device_ends_alone(promise: str) -> None:
    one = Road(promise, engine={"out_of_memory": ["huge"]})
    sent = one.produce(text("a"), text("huge"), text("b"), topic="posts", key=b"k")
    one.run(3)
    assert one.dead("posts.dead") == {str(sent[1]): "engine_out_of_memory"}
    assert len(one.events("posts.out")) == 2


@BOTH
def test_no_more_than_the_limit_is_ever_uncommitted(promise: str) -> None:
    one = Road(promise, max_uncommitted_records=10, max_records=4, engine={"record_s": 0.015})
    one.produce(*[text(f"post {i}") for i in range(60)], topic="posts")
    most = 0

    class Bound(Watch):
        def consumed(self, topic: str, records: int) -> None:
            nonlocal most
            super().consumed(topic, records)
            committed = sum(offset or 0 for offset in one.committed("posts").values())
            most = max(most, self.counts["consumed"] - committed)

    watch = Bound(60)
    pipeline = one.pipeline(watch)
    pipeline.run(watch.stop)
    one.classifier.close()
    assert 0 < most <= 10
    assert watch.most_paused == 2
    assert len(one.events("posts.out")) == 60


def test_a_commit_that_fails_for_now_is_tried_again_before_the_end() -> None:
    one = Road()
    one.produce(text("a post"), topic="posts", key=b"k")
    failures = iter([True] * 3)

    def fault(step: Step) -> None:
        # commits that nobody waits for fail silently, so count only those of the drain
        if step == "commit" and watch.stop.is_set() and next(failures, False):
            raise TransientError("the coordinator moves")

    watch = Watch(1)
    one.broker.fault = fault
    pipeline = one.pipeline(watch)
    pipeline.run(watch.stop)
    one.classifier.close()
    assert max(offset or 0 for offset in one.committed("posts").values()) == 1
    assert next(failures, None) is None


@BOTH
def test_one_record_at_a_time_is_slow_but_comes_to_an_end(promise: str) -> None:
    one = Road(promise, max_uncommitted_records=1)
    sent = one.produce(*[text(f"post {i}") for i in range(7)], topic="posts")
    one.run(7)
    assert set(one.events("posts.out")) == {str(position) for position in sent}


class Interfering(Watch):
    """Does something to the broker once the first window is under way."""

    def __init__(self, expected: int, interfere: Callable[[], None]) -> None:
        super().__init__(expected)
        self._interfere: Callable[[], None] | None = interfere

    def submitted(self, documents: int) -> None:
        if self._interfere is not None:
            self._interfere()
            self._interfere = None


def run_interfered(one: Road, expected: int, interfere: Callable[[MemorySource], None]) -> Watch:
    watch = Interfering(expected, lambda: interfere(one.source))
    pipeline = one.pipeline(watch)
    pipeline.run(watch.stop)
    one.classifier.close()
    return watch


@BOTH
def test_a_revoke_finishes_and_commits_before_it_lets_go(promise: str) -> None:
    one = Road(promise, engine={"record_s": 0.002})
    one.produce(*[text(f"post {i}") for i in range(12)], topic="posts", key=b"k")
    (at,) = {position.at for position in one.broker.messages("posts")}
    seen: dict[str, int | None] = {}

    class Other(Watch):
        def revoked(self, partitions: Any, lost: bool) -> None:
            seen.setdefault("committed", one.broker.committed(GROUP, at))
            self.stop.set()

    watch = Other(99)
    pipeline = one.pipeline(watch)
    one.source.subscribe(pipeline)
    pipeline.step()
    one.broker.revoke(one.source, [at])
    pipeline.step()
    one.classifier.close()
    assert seen["committed"] == len(one.events("posts.out")) > 0


@BOTH
def test_a_lost_partition_is_dropped_and_its_new_owner_reads_it_again(promise: str) -> None:
    one = Road(promise, engine={"record_s": 0.02})
    sent = one.produce(*[text(f"post {i}") for i in range(6)], topic="posts", key=b"k")

    def lose(source: MemorySource) -> None:
        one.broker.lose(source, [sent[0].at])
        one.broker.assign(source, [sent[0].at])  # and it comes back, as a new assignment

    run_interfered(one, 6, lose)
    assert set(one.events("posts.out")) == {str(position) for position in sent}
    assert one.broker.committed(GROUP, sent[0].at) == 6


VALUES = st.one_of(
    st.none(),
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda words: orjson.dumps({"text": words}) if words.isprintable() else b"\xff"),
    st.sampled_from([b'{"text": "<<LABEL>>x<<SEP>>"}', b'{"text": null}', b"[]", b'{"text": ["a"]}']),
)


@BOTH
@settings(max_examples=40, deadline=None)
@given(records=st.lists(st.tuples(st.sampled_from(["tickets", "posts"]), VALUES, st.binary(max_size=4)), max_size=40))
def test_whatever_comes_in_ends_in_output_or_dead_letters(
    promise: str, records: list[tuple[str, bytes | None, bytes]]
) -> None:
    one = Road(promise, max_records=4)
    sent = {str(one.broker.produce(topic, value, key=key)) for topic, value, key in records}
    one.run(len(sent))
    out: Mapping[str, Any] = one.events("tickets.out") | one.events("tickets.urgent") | one.events("posts.out")
    dead = one.dead("tickets.dead") | one.dead("posts.dead")
    assert set(out) | set(dead) == sent
    assert not set(out) & set(dead)
