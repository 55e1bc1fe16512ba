"""Where reading begins when brokers do not know at once."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streamer.transport.kafka_client import Failures
from streamer.transport.kafka_positions import Positions


class Moving:
    """A consumer of a new group whose topic's leader moves: the first lookups fail. No broker fails on request."""

    def __init__(self, failures: list[int]) -> None:
        self.failures = failures
        self.kept: list[int] = []

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(tp.topic, tp.partition, -1001) for tp in partitions]

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout > 0
        if self.failures:
            raise KafkaException(KafkaError(self.failures.pop()))
        return [TopicPartition(tp.topic, tp.partition, 7) for tp in partitions]

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self.kept += [tp.offset for tp in offsets]


@pytest.mark.parametrize(
    ("failures", "begin"),
    [
        ([], 7),
        ([KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE], 7),
        ([KafkaError.TOPIC_AUTHORIZATION_FAILED], -1001),
    ],
)
def test_a_leader_that_moves_is_asked_again(failures: list[int], begin: int) -> None:
    consumer = Moving(failures)
    positions = Positions(consumer=cast(Consumer, consumer), reset="latest", failures=Failures("127.0.0.1:1"))
    (start,) = positions.starts([TopicPartition("in", 0)])
    assert (start.offset, consumer.kept) == (begin, [7] * (begin == 7))
