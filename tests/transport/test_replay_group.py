"""How far a replay came, at the broker: pinned ranges, and whose offsets are left alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition
from structlog.testing import capture_logs

from streamer.errors import TransientError, UsageError
from streamer.records import Partition
from streamer.transport.base import Offsets
from streamer.transport.kafka_range import Range
from streamer.transport.replay_group import Progress, ReplayGroup

if TYPE_CHECKING:
    from tests.conftest import RoadBroker


def group(broker: RoadBroker, name: str, identity: str = "ab12") -> ReplayGroup:
    return ReplayGroup(
        bootstrap_servers=broker.bootstrap_servers,
        properties=broker.properties("classic"),
        group_id=name,
        identity=identity,
    )


def test_ranges_and_progress_are_kept(broker: RoadBroker, unique: str) -> None:
    broker.create_topic(unique)
    one, two = Range(Partition(unique, 0), 3, 9), Range(Partition(unique, 1), 0, 0)
    first = group(broker, unique)
    assert first.read([one.at, two.at]) == []
    assert first.begin([one, two]) == [Progress(one, 3), Progress(two, 0)]
    answers: list[Offsets] = []
    first.on_answer(answers.append)
    first.commit_soon({one.at: 7})
    deadline = time.monotonic() + 30
    while not answers:
        assert time.monotonic() < deadline
        first.serve(0.05)
    assert answers == [{one.at: 7}]
    first.close()
    second = group(broker, unique)
    assert second.read([one.at, two.at]) == [Progress(one, 7), Progress(two, 0)]
    assert [known.left for known in second.read([one.at, two.at])] == [2, 0]
    second.close()


def test_offsets_of_another_replay_or_of_anything_else_are_left_alone(broker: RoadBroker, unique: str) -> None:
    broker.create_topic(unique)
    at = Partition(unique, 0)
    first = group(broker, unique)
    first.begin([Range(at, 0, 5)])
    first.close()
    other = group(broker, unique, identity="ff")
    with pytest.raises(UsageError, match=r"belongs to a replay .* another range.*--group"):
        other.read([at])
    other.close()
    consumer = Consumer(
        {"bootstrap.servers": broker.bootstrap_servers, "group.id": unique, **broker.properties("classic")}
    )
    consumer.commit(offsets=[TopicPartition(*at, 4)], asynchronous=False)
    consumer.close()
    mine = group(broker, unique)
    with pytest.raises(UsageError, match="no replay's; name another --group"):
        mine.read([at])
    mine.close()


def serve_until(replay: ReplayGroup, deadline_s: float) -> None:
    while time.monotonic() < deadline_s:
        replay.serve(0.05)


@pytest.mark.kafka
def test_a_group_with_members_is_refused(kafka_road: RoadBroker, unique: str) -> None:
    kafka_road.create_topic(unique)
    member = Consumer({"bootstrap.servers": kafka_road.bootstrap_servers, "group.id": unique})
    member.subscribe([unique])
    deadline = time.monotonic() + 30
    while not member.assignment():
        assert time.monotonic() < deadline
        member.poll(0.1)
    replay = group(kafka_road, unique)
    assert replay.read([Partition(unique, 0)]) == []
    with pytest.raises(UsageError, match="has members"):
        replay.begin([Range(Partition(unique, 0), 0, 5)])
    answers: list[Offsets] = []
    replay.on_answer(answers.append)
    replay.commit_soon({Partition(unique, 0): 1})
    with pytest.raises(UsageError, match="has members"):
        serve_until(replay, deadline)
    assert answers == [{}]
    replay.close()
    member.close()


def test_a_broker_that_is_away_is_transient() -> None:
    with capture_logs():
        replay = ReplayGroup(bootstrap_servers="127.0.0.1:1", properties={"log_level": 0}, group_id="g", identity="ab")
        with pytest.raises(TransientError):
            replay.read([Partition("t", 0)])
        replay.close()
