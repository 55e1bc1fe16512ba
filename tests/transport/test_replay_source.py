"""A replay's source: fixed ranges, at a rate, settled in a group of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from streamer.records import Envelope, Outbound, Partition
from streamer.transport.base import Lag, Offsets
from streamer.transport.kafka_range import Range, RangeReader
from streamer.transport.replay_group import ReplayGroup
from streamer.transport.replay_source import CATCH_UP_S, RateLimit, ReplaySource
from tests.marks import until_marked

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

WAIT_S = 30.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Listener:
    """Remembers what it is told."""

    assigned: list[Partition] = field(default_factory=list)
    revoked: list[Partition] = field(default_factory=list)
    answers: list[Offsets] = field(default_factory=list)

    def on_assigned(self, partitions: Collection[Partition]) -> None:
        self.assigned += partitions

    def on_revoked(self, partitions: Collection[Partition]) -> None:
        self.revoked += partitions

    def on_lost(self, partitions: Collection[Partition]) -> None:
        raise AssertionError("nobody else can have them")

    def on_committed(self, offsets: Offsets) -> None:
        self.answers.append(offsets)


@dataclass
class Replay:
    """A source over a topic of 10 records in each of 4 partitions, and what it told."""

    broker: RoadBroker
    topic: str
    ranges: Sequence[Range]
    clock: Callable[[], float] = time.monotonic
    rate: float | None = None
    ends: int = 0
    settled: int = 0

    def __post_init__(self) -> None:
        properties = self.broker.properties("classic")
        servers = self.broker.bootstrap_servers
        self.group = ReplayGroup(
            bootstrap_servers=servers, properties=properties, group_id=f"{self.topic}-group", identity="0af1"
        )
        self.listener = Listener()
        self.source = ReplaySource(
            group=self.group,
            progress=self.group.read([one.at for one in self.ranges]) or self.group.begin(self.ranges),
            open_reader=lambda ranges: RangeReader(
                bootstrap_servers=servers, properties=properties, ranges=ranges, fetch_memory_mb=8, patience_s=WAIT_S
            ),
            rate=RateLimit(rate=self.rate, clock=self.clock),
            on_end=self._on_end,
            on_settled=self._on_settled,
        )
        self.source.subscribe(self.listener)

    def _on_end(self) -> None:
        self.ends += 1

    def _on_settled(self, offsets: int) -> None:
        self.settled += offsets

    def read(self, records: int) -> list[Envelope[None]]:
        found: list[Envelope[None]] = []
        deadline = time.monotonic() + WAIT_S
        while len(found) < records:
            assert time.monotonic() < deadline, found
            found += self.source.poll(records - len(found), 0.05)
        return found

    def poll_until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not true():
            assert time.monotonic() < deadline
            assert not self.source.poll(100, 0.05)


@pytest.fixture
def topic(broker: RoadBroker, unique: str) -> str:
    broker.create_topic(unique)
    for partition in range(4):
        broker.produce(
            [Outbound(unique, None, str(offset).encode(), (), None, False) for offset in range(10)], partition
        )
    return unique


def at(topic: str, partition: int) -> Partition:
    return Partition(topic, partition)


def middle(topic: str) -> list[Range]:
    """Offsets 2 to 8 of two partitions, none of a third one."""
    return [Range(at(topic, 0), 2, 8), Range(at(topic, 1), 2, 8), Range(at(topic, 2), 5, 5)]


def test_it_reads_the_ranges_and_ends_when_all_is_committed(broker: RoadBroker, topic: str) -> None:
    replay = Replay(broker, topic, middle(topic))
    records = replay.read(12)
    assert replay.listener.assigned == [at(topic, 0), at(topic, 1), at(topic, 2)]
    for partition in (0, 1):
        assert [one.position.offset for one in records if one.position.partition == partition] == list(range(2, 8))
    replay.poll_until(lambda: all(not lag.records for lag in replay.source.lag().values()))
    assert replay.ends == 0, "nothing is committed yet"
    replay.source.commit({at(topic, 0): 8, at(topic, 1): 5}, wait=False)
    replay.poll_until(lambda: bool(replay.listener.answers))
    assert replay.ends == 0
    assert replay.settled == 9
    replay.source.commit({at(topic, 1): 8}, wait=True)
    assert replay.listener.answers == [{at(topic, 0): 8, at(topic, 1): 5}, {at(topic, 1): 8}]
    replay.poll_until(lambda: replay.ends > 0)
    assert replay.source.ended
    replay.source.close()
    assert replay.listener.revoked == replay.listener.assigned
    assert replay.settled == 12


def test_a_second_one_goes_on_after_what_was_committed(broker: RoadBroker, topic: str) -> None:
    first = Replay(broker, topic, middle(topic))
    first.read(12)
    first.source.commit({at(topic, 0): 4}, wait=True)
    first.source.close()
    # another range is asked for now, but the one that was begun counts
    second = Replay(broker, topic, [Range(at(topic, partition), 0, 10) for partition in range(3)])
    records = second.read(10)
    offsets = {p: [one.position.offset for one in records if one.position.partition == p] for p in (0, 1)}
    assert offsets == {0: list(range(4, 8)), 1: list(range(2, 8))}
    second.poll_until(lambda: all(not lag.records for lag in second.source.lag().values()))
    second.source.close()


@pytest.mark.kafka
def test_the_end_of_a_range_without_records_is_settled_too(kafka_road: RoadBroker, unique: str) -> None:
    """The mark that ends a transaction takes an offset, and is no record."""
    kafka_road.create_topic(unique, partitions=1)
    producer = Producer({"bootstrap.servers": kafka_road.bootstrap_servers, "transactional.id": unique})
    producer.init_transactions(20)
    for value in (b"0", b"2"):
        producer.begin_transaction()
        producer.produce(unique, value, partition=0)
        producer.commit_transaction(20)
    producer.close()
    until_marked(kafka_road.bootstrap_servers, unique)
    replay = Replay(kafka_road, unique, [Range(at(unique, 0), 0, 4)])
    assert [one.value for one in replay.read(2)] == [b"0", b"2"]
    replay.source.commit({at(unique, 0): 3}, wait=True)
    replay.poll_until(lambda: replay.ends > 0)
    replay.source.close()
    assert replay.settled == 4
    after = ReplayGroup(
        bootstrap_servers=kafka_road.bootstrap_servers, properties={}, group_id=f"{unique}-group", identity="0af1"
    )
    assert [one.left for one in after.read([at(unique, 0)])] == [0]
    after.close()


def test_it_pauses_and_rewinds(broker: RoadBroker, topic: str) -> None:
    replay = Replay(broker, topic, [Range(at(topic, 0), 0, 10)])
    assert [one.position.offset for one in replay.read(3)] == [0, 1, 2]
    replay.source.pause({topic})
    assert replay.source.poll(10, 0.2) == []
    replay.source.resume({topic})
    assert replay.read(1)[0].position.offset == 3
    replay.source.commit({at(topic, 0): 2}, wait=True)
    replay.source.rewind(None)
    records = replay.read(2)
    assert [(one.position.offset, one.epoch) for one in records] == [(2, 1), (3, 1)]
    replay.source.rewind({at(topic, 0): 9})
    records = replay.read(1)
    assert [(one.position.offset, one.epoch) for one in records] == [(9, 2)]
    assert replay.source.lag() == {at(topic, 0): Lag(0, 0.0)}
    assert replay.source.commit_token() is None
    replay.source.close()


def test_it_hands_out_no_more_than_the_rate(broker: RoadBroker, topic: str) -> None:
    clock = Clock()
    replay = Replay(broker, topic, [Range(at(topic, 0), 0, 10)], clock=clock, rate=4.0)
    assert len(replay.read(1)) == 1
    assert replay.source.poll(10, 0.0) == []
    clock.now_s += 0.25
    assert len(replay.read(1)) == 1
    clock.now_s += 60.0
    assert len(replay.read(3)) == 3, "what was missed while nobody read comes back for half a second only"
    assert replay.source.poll(10, 0.0) == []
    replay.source.close()


def test_a_rate_is_kept_and_is_even() -> None:
    clock = Clock()
    limit = RateLimit(rate=100.0, clock=clock)
    passed: list[int] = []
    for _ in range(1000):  # 20 s in steps of 20 ms
        allowed = limit.allowed(50)
        limit.passed(allowed)
        passed.append(allowed)
        clock.now_s += 0.02
    assert sum(passed) == pytest.approx(2000, abs=2)
    assert max(passed) <= 3
    clock.now_s += 3600
    assert limit.allowed(10_000) <= CATCH_UP_S * 100 + 1


def test_a_slow_rate_tells_when_the_next_record_is_due() -> None:
    clock = Clock()
    limit = RateLimit(rate=0.5, clock=clock)
    assert limit.due_in_s() == 0.0
    limit.passed(limit.allowed(7))
    assert limit.allowed(7) == 0
    assert limit.due_in_s() == pytest.approx(2.0)
    clock.now_s += 2.0
    assert limit.allowed(7) == 1


def test_without_a_rate_nothing_is_held_back() -> None:
    limit = RateLimit(rate=None, clock=Clock())
    limit.passed(limit.allowed(1_000_000))
    assert limit.allowed(1_000_000) == 1_000_000
    assert limit.due_in_s() == 0.0
