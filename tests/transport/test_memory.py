"""The broker in memory: what tests can make it do."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from streamer.errors import TransientError, UsageError
from streamer.records import Outbound, Partition
from streamer.transport.base import DeliveryOutcome, Offsets, Refused
from streamer.transport.memory import MemoryBroker, MemorySink, MemorySource
from streamer.transport.memory_broker import Step

IN = [Partition("in", number) for number in range(2)]


class Ears:
    """A listener that remembers, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, tuple[Partition, ...]]] = []

    def on_assigned(self, partitions: Collection[Partition]) -> None:
        self.heard.append(("assigned", tuple(partitions)))

    def on_revoked(self, partitions: Collection[Partition]) -> None:
        self.heard.append(("revoked", tuple(partitions)))

    def on_lost(self, partitions: Collection[Partition]) -> None:
        self.heard.append(("lost", tuple(partitions)))

    def on_committed(self, offsets: Offsets) -> None:
        self.heard.append(("committed", tuple(offsets)))


class Faults:
    """Raises once at a step."""

    def __init__(self) -> None:
        self.at: Step | None = None

    def __call__(self, step: Step) -> None:
        if step == self.at:
            self.at = None
            raise TransientError(f"fault at {step}")


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def broker(faults: Faults) -> MemoryBroker:
    broker = MemoryBroker(partitions=2, max_message_bytes=100, now_ms=lambda: 5_000, fault=faults)
    broker.create_topic("in")
    return broker


def member(broker: MemoryBroker) -> tuple[MemorySource, Ears]:
    source = MemorySource(broker=broker, group_id="g", topics=["in"], auto_offset_reset="earliest")
    ears = Ears()
    source.subscribe(ears)
    return source, ears


def out(value: bytes) -> Outbound:
    return Outbound("out", b"k", value, (), None, False)


def values(broker: MemoryBroker) -> list[bytes | None]:
    return [stored.value for stored in broker.messages("out").values()]


def test_revoked_partitions_go_to_the_member_they_are_assigned_to(broker: MemoryBroker) -> None:
    for number in range(4):
        broker.produce("in", b"%d" % number, partition=1)
    old, old_ears = member(broker)
    new, new_ears = member(broker)
    assert [r.position.offset for r in old.poll(2, 0)] == [0, 1]
    assert new.poll(9, 0) == []
    broker.revoke(old, IN[1:])
    broker.assign(new, IN[1:])
    assert new.poll(9, 0) == [], "still the old owner's"
    old.commit({IN[1]: 1}, wait=True)
    assert old.poll(9, 0) == []
    assert [r.position.offset for r in new.poll(9, 0)] == [1, 2, 3]
    assert old_ears.heard == [("assigned", tuple(IN)), ("committed", (IN[1],)), ("revoked", (IN[1],))]
    assert new_ears.heard == [("assigned", (IN[1],))]


def test_lost_partitions_are_gone_before_their_member_hears_of_it(broker: MemoryBroker) -> None:
    broker.produce("in", b"v", partition=0)
    old, old_ears = member(broker)
    new, _ = member(broker)
    assert len(old.poll(9, 0)) == 1
    broker.lose(old, IN[:1])
    broker.assign(new, IN[:1])
    old.commit({IN[0]: 1}, wait=True)
    assert broker.committed("g", IN[0]) is None
    assert len(new.poll(9, 0)) == 1
    old.poll(9, 0)
    assert old_ears.heard[-1] == ("lost", (IN[0],))


def test_a_partition_that_comes_back_has_a_new_epoch(broker: MemoryBroker) -> None:
    broker.produce("in", b"v", partition=0)
    source, _ = member(broker)
    first = source.poll(9, 0)[0]
    broker.revoke(source, IN[:1])
    source.poll(9, 0)
    broker.assign(source, IN[:1])
    again = source.poll(9, 0)[0]
    assert again.position == first.position
    assert again.epoch > first.epoch


def test_a_missing_topic_is_said_to_the_user(broker: MemoryBroker) -> None:
    source = MemorySource(broker=broker, group_id="g", topics=["nowhere"], auto_offset_reset="earliest")
    with pytest.raises(UsageError, match="'nowhere' does not exist"):
        source.subscribe(Ears())


def test_faults_and_refusals_come_as_told(broker: MemoryBroker, faults: Faults) -> None:
    broker.produce("in", b"v", partition=0)
    source, _ = member(broker)
    for step, action in (
        ("poll", lambda: source.poll(1, 0)),
        ("commit", lambda: source.commit({IN[0]: 1}, wait=True)),
        ("rewind", lambda: source.rewind(None)),
    ):
        source.poll(1, 0)
        faults.at = step  # type: ignore[assignment]
        with pytest.raises(TransientError):
            action()
    faults.at = "commit"
    source.commit({IN[0]: 1}, wait=False)
    assert broker.committed("g", IN[0]) is None


def test_the_fate_of_a_message_can_be_chosen() -> None:
    broker = MemoryBroker(
        partitions=1,
        max_message_bytes=100,
        now_ms=lambda: 0,
        deliver=lambda message: Refused("no x") if message.value == b"x" else None,
    )
    sink = MemorySink(broker=broker)
    reports: list[DeliveryOutcome] = []
    for value in (b"w", b"x", b"y"):
        sink.send(out(value), reports.append)
    assert sink.flush(1) == 0
    assert reports == [None, Refused("no x"), None]
    assert values(broker) == [b"w", b"y"]


def test_acknowledgements_can_be_held_back(broker: MemoryBroker) -> None:
    sink = MemorySink(broker=broker)
    reports: list[DeliveryOutcome] = []
    sink.hold()
    sink.send(out(b"1"), reports.append)
    sink.send(out(b"2"), reports.append)
    assert sink.flush(1) == 2
    assert reports == []
    sink.release()
    assert sink.flush(0) == 0
    assert reports == [None, None]


def test_lag_counts_from_the_oldest_unread(broker: MemoryBroker) -> None:
    broker.produce("in", b"a", partition=0, timestamp_ms=1_000)
    broker.produce("in", b"b", partition=0, timestamp_ms=3_000)
    source, _ = member(broker)
    source.poll(1, 0)
    lag = source.lag()
    assert (lag[IN[0]].records, lag[IN[0]].seconds) == (1, 2.0)
    assert (lag[IN[1]].records, lag[IN[1]].seconds) == (0, 0.0)


def test_a_key_keeps_its_partition_and_messages_without_one_go_round(broker: MemoryBroker) -> None:
    keyed = {broker.produce("t", b"v", key=b"k").partition for _ in range(5)}
    assert len(keyed) == 1
    assert [broker.produce("t", b"v").partition for _ in range(4)] == [0, 1, 0, 1]
