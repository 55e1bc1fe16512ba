"""The checker and those who look on, on Apache Kafka: a hand-written output with one planted fault, or none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from load_tests.faults.checker import judge
from load_tests.faults.evidence import Evidence, Input, Rules, Verdict
from load_tests.faults.fleet import Fleet
from load_tests.faults.scene import Scene, scene
from load_tests.faults.traffic import Work, as_input
from load_tests.reading import read_all
from streamer.encode import DEAD_LETTER_HEADER
from streamer.records import Position
from tests.marks import until_marked

pytestmark = pytest.mark.kafka

RECORDS = 300
WRITER = "writer"
ONCE = Rules(delivery="exactly_once", max_uncommitted_records=1, memory_mb=1, grace_s=1)


class Hand:
    """Writes outputs and commits offsets as a `streamer run` would, and otherwise where it is told to."""

    def __init__(self, around: Scene) -> None:
        self.around = around
        self.inputs: dict[Position, Input] = dict(
            sorted(map(as_input, read_all(around.bootstrap_servers, around.names["in"])))
        )
        self.good = [position for position, sent in self.inputs.items() if not sent.bad and sent.key is not None]
        client = {"bootstrap.servers": around.bootstrap_servers}
        self._producer = Producer({**client, "transactional.id": around.names["group"]})
        self._producer.init_transactions(30)
        self._committer = Consumer({**client, "group.id": around.names["group"]})

    @contextmanager
    def transaction(self, *, abort: bool = False) -> Iterator[None]:
        self._producer.begin_transaction()
        yield
        self._producer.flush(30)
        if abort:
            self._producer.abort_transaction(30)
        else:
            self._producer.commit_transaction(30)
        until_marked(self.around.bootstrap_servers, self.around.names["out"], self.around.names["dead"])

    def write(self, position: Position, *, number: int | None = None, version: str | None = None) -> None:
        sent = self.inputs.get(position, Input(b"k", 0, False))
        if sent.bad:
            told = {"topic": position.topic, "partition": position.partition, "offset": position.offset}
            headers = {**told, "label-set": WRITER}
            named = [(DEAD_LETTER_HEADER + name, str(value).encode()) for name, value in headers.items()]
            self._producer.produce(self.around.names["dead"], None, sent.key, headers=named)  # type: ignore[arg-type]
            return
        event = {
            "source": position._asdict(),
            "label_set": {"name": WRITER, "version": version or self.around.work.version()},
            "payload": {"number": sent.number if number is None else number},
        }
        self._producer.produce(self.around.names["out"], orjson.dumps(event), sent.key)

    def commit(self, less: int = 0) -> None:
        """All of the input, or less of its last partition; returns when it was sampled."""
        ends: dict[tuple[str, int], int] = {}
        for position in self.inputs:
            ends[position.at] = position.offset + 1
        last = max(ends)
        offsets = [TopicPartition(*at, end - less * (at == last)) for at, end in ends.items()]
        self._committer.commit(offsets=offsets, asynchronous=False)
        deadline_s = time.monotonic() + 30
        while sum(self.around.sampler.committed.values()) < len(self.inputs) - less:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    def close(self) -> None:
        self._committer.close()
        self._producer.close()


def nothing(hand: Hand) -> None:
    with hand.transaction(abort=True):
        for position in list(hand.inputs)[:50]:
            hand.write(position)
    with hand.transaction():
        for position in hand.inputs:
            hand.write(position)
    hand.commit()


def loss(hand: Hand) -> None:
    with hand.transaction():
        for position in hand.inputs:
            if position != hand.good[7]:
                hand.write(position)
    hand.commit()


def duplicate(hand: Hand) -> None:
    nothing(hand)
    with hand.transaction():
        hand.write(hand.good[7])


def reorder(hand: Hand) -> None:
    key = hand.inputs[hand.good[7]].key
    same = [position for position in hand.good if hand.inputs[position].key == key and position.at == hand.good[7].at]
    swapped = {same[0]: same[-1], same[-1]: same[0]}
    assert len(swapped) == 2
    with hand.transaction():
        for position in hand.inputs:
            hand.write(swapped.get(position, position))
    hand.commit()


def early_commit(hand: Hand) -> None:
    hand.commit()
    with hand.transaction():
        for position in hand.inputs:
            hand.write(position)


def unfinished(hand: Hand) -> None:
    with hand.transaction():
        for position in hand.inputs:
            hand.write(position)
    hand.commit(less=1)


def stranger(hand: Hand) -> None:
    nothing(hand)
    with hand.transaction():
        hand.write(hand.good[0]._replace(offset=99_999))


def mixed_up(hand: Hand) -> None:
    with hand.transaction():
        for position in hand.inputs:
            hand.write(position, number=12345 if position == hand.good[7] else None)
    hand.commit()


def wrong_version(hand: Hand) -> None:
    with hand.transaction():
        for position in hand.inputs:
            hand.write(position, version="f" * 16 if position == hand.good[7] else None)
    hand.commit()


@pytest.fixture
def around(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Scene]:
    def work(names: object) -> Work:
        return Work(
            bootstrap_servers=kafka_bootstrap,
            names=names,  # type: ignore[arg-type]
            delivery="exactly_once",
            static_members=False,
            session_timeout_ms=6000,
            service_time_ms=0,
            window_records=1,
            max_uncommitted_records=1,
            drain_timeout_s=1,
        )

    with scene(kafka_bootstrap, partitions=2, count=RECORDS, seed=1, folder=tmp_path, work=work) as found:
        yield found


def evidence(around: Scene, folder: Path) -> Evidence:
    """As of a run whose one process was a hand."""
    nobody = Fleet(
        slots=[], waiting=[], settings=around.work.settings, folder=folder, journal=around.journal, grace_s=1
    )
    return replace(around.evidence(nobody), versions={WRITER: around.work.version()})


def broken(verdict: Verdict) -> set[str]:
    return {finding.name for finding in verdict.findings if finding.violations}


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (nothing, set()),
        (loss, {"every input in an output or a dead letter", "committed only what is finished"}),
        (
            duplicate,
            {"no duplicate for a concurrent reader", "no duplicate in the end", "input order, whatever the key"},
        ),
        (reorder, {"order by input partition, key, output topic", "input order, whatever the key"}),
        (early_commit, {"committed only what is finished"}),
        (unfinished, {"all committed in the end"}),
        (stranger, {"nothing but what was sent"}),
        (mixed_up, {"nothing but what was sent"}),
        (wrong_version, {"label-set version"}),
    ],
)
def test_a_planted_fault_is_found_and_nothing_else(
    around: Scene, tmp_path: Path, plant: Callable[[Hand], None], found: set[str]
) -> None:
    hand = Hand(around)
    try:
        plant(hand)
        verdict = judge(evidence(around, tmp_path), ONCE)
    finally:
        hand.close()
    assert verdict.inputs == RECORDS
    assert broken(verdict) == found, verdict
