"""Several members of one group: partitions move, and no record is lost."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

import pytest

from streamer.records import Envelope, Outbound, Partition
from streamer.transport.base import Offsets
from streamer.transport.kafka_client import GroupProtocol
from streamer.transport.kafka_source import KafkaSource

if TYPE_CHECKING:
    from tests.conftest import RoadBroker


class Member:
    """Reads, and commits all it has read when partitions are taken from it."""

    def __init__(self, road: RoadBroker, topic: str, protocol: GroupProtocol, **properties: int) -> None:
        self.source = KafkaSource(
            bootstrap_servers=road.bootstrap_servers,
            group_id=topic,
            topics=[topic],
            properties={**road.properties(protocol), **{k.replace("_", "."): v for k, v in properties.items()}},
            auto_offset_reset="earliest",
            group_protocol=protocol,
            group_instance_id=None,
            fetch_memory_mb=8,
        )
        self.held: set[Partition] = set()
        self.revoked: set[Partition] = set()
        self.lost: set[Partition] = set()
        self.records: list[Envelope[None]] = []
        self.source.subscribe(self)

    def on_assigned(self, partitions: Collection[Partition]) -> None:
        self.held |= set(partitions)

    def on_revoked(self, partitions: Collection[Partition]) -> None:
        self.revoked |= set(partitions)
        self.held -= set(partitions)
        self.source.commit({at: next_ for at, next_ in self.done().items() if at in partitions}, wait=True)

    def on_committed(self, offsets: Offsets) -> None: ...

    def on_lost(self, partitions: Collection[Partition]) -> None:
        self.lost |= set(partitions)
        self.held -= set(partitions)

    def done(self) -> dict[Partition, int]:
        return {record.position.at: record.position.offset + 1 for record in self.records}

    def poll(self) -> None:
        batch = self.source.poll(50, 0.02)
        assert {record.position.at for record in batch} <= self.held
        self.records += batch


def run(members: list[Member], until: object, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not until():  # type: ignore[operator]
        assert time.monotonic() < deadline, [sorted(member.held) for member in members]
        for member in members:
            member.poll()


def fill(road: RoadBroker, topic: str, count: int) -> None:
    for partition in range(4):
        road.produce([Outbound(topic, None, b"v", (), None, False)] * count, partition)


@pytest.mark.parametrize(
    ("road", "protocol", "properties"),
    [
        ("embedded_road", "consumer", {}),
        pytest.param("kafka_road", "consumer", {}, marks=pytest.mark.kafka),
        pytest.param("kafka_road", "classic", {"heartbeat_interval_ms": 300}, marks=pytest.mark.kafka),
    ],
)
def test_a_second_member_takes_over_half_and_nothing_is_lost_or_read_twice(
    request: pytest.FixtureRequest, unique: str, road: str, protocol: GroupProtocol, properties: dict[str, int]
) -> None:
    broker: RoadBroker = request.getfixturevalue(road)
    topic = broker.create_topic(unique)
    fill(broker, topic, 200)
    first = Member(broker, topic, protocol, **properties)
    run([first], lambda: len(first.records) >= 400)
    second = Member(broker, topic, protocol, **properties)
    run([first, second], lambda: len(first.held) == 2 and len(second.held) == 2)
    assert first.revoked == second.held
    fill(broker, topic, 50)
    run([first, second], lambda: len(first.records) + len(second.records) >= 1000)
    positions = [record.position for member in (first, second) for record in member.records]
    assert len(positions) == len(set(positions)) == 1000, "each commit was made before its partition moved"

    second.source.close()
    run([first], lambda: len(first.held) == 4)
    fill(broker, topic, 10)
    run([first], lambda: len(first.records) + len(second.records) >= 1040)
    epochs = {record.position.at: set[int]() for record in first.records}
    for record in first.records:
        epochs[record.position.at].add(record.epoch)
    moved = {at: len(seen) for at, seen in epochs.items() if at in first.revoked}
    assert set(moved.values()) == {2}, "a partition that comes back has a new epoch"
    first.source.close()
    assert not first.lost | second.lost


@pytest.mark.kafka
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_what_was_paused_when_it_went_away_is_read_when_it_comes_back_after_a_resume(
    kafka_road: RoadBroker, unique: str, protocol: GroupProtocol
) -> None:
    """The client keeps a partition's pause while others hold it."""
    topic = kafka_road.create_topic(unique)
    properties = {"heartbeat_interval_ms": 300} if protocol == "classic" else {}
    first = Member(kafka_road, topic, protocol, **properties)
    run([first], lambda: len(first.held) == 4)
    first.source.pause([topic])
    second = Member(kafka_road, topic, protocol, **properties)
    run([first, second], lambda: len(first.held) == 2 and len(second.held) == 2)
    first.source.resume([topic])
    second.source.close()
    run([first], lambda: len(first.held) == 4)
    fill(kafka_road, topic, 5)
    run([first], lambda: len(first.records) == 20)
    first.source.close()


@pytest.mark.kafka
def test_a_member_that_stops_polling_loses_its_partitions(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique)
    fill(kafka_road, topic, 10)
    slow = Member(kafka_road, topic, "classic", session_timeout_ms=1500, max_poll_interval_ms=1500)
    run([slow], lambda: len(slow.records) == 40)
    held = set(slow.held)
    quick = Member(kafka_road, topic, "classic")
    run([quick], lambda: len(quick.records) == 40)
    slow.source.commit(slow.done(), wait=True)  # too late: logged, and without effect
    run([slow, quick], lambda: slow.lost == held)
    slow.source.close()
    quick.source.rewind(None)
    run([quick], lambda: len(quick.records) == 80)
    quick.source.close()
