"""Where reading begins, goes on, and has come to: questions about offsets to the group's coordinator.

Enters: partitions of a consumer. Leaves: offsets. Must not know: records, labels, the pipeline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from streamer.records import Partition
from streamer.transport.base import Offsets
from streamer.transport.holdings import Holdings
from streamer.transport.kafka_client import Failures, OffsetReset, reason

# for requests that the thread waits for: at the start, when the group rebalances, when records are read again
REQUEST_TIMEOUT_S = 5.0
_RETRY_S = 0.1
# brokers say so while a topic is new or a leader moves; the client looks for the new leader meanwhile
_PASSING: Final = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._WAIT_COORD,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)


class Positions:
    """Committed offsets of one consumer, and what stands in where there are none."""

    def __init__(self, *, consumer: Consumer, reset: OffsetReset, failures: Failures) -> None:
        self._consumer = consumer
        self._reset = OFFSET_BEGINNING if reset == "earliest" else OFFSET_END
        self._failures = failures
        self._log = structlog.get_logger()

    def starts(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Where to begin: committed offsets, else the end of the topic that `auto_offset_reset` names.

        The client would find out by itself, but only so are the lag of a partition without news, and the way back to
        the first record, known from the beginning. A partition without an answer is left to the client."""
        if not partitions:
            return partitions
        try:
            committed = _persistently(lambda left_s: self._consumer.committed(partitions, timeout=left_s))
            new = [TopicPartition(tp.topic, tp.partition, self._reset) for tp in committed if _uncommitted(tp)]
            found = _persistently(lambda left_s: self._consumer.offsets_for_times(new, timeout=left_s)) if new else []
            found = [tp for tp in found if tp.error is None and tp.offset >= 0]
            if found and self._reset == OFFSET_END:
                # or a crash before the first commit would skip what was read until then
                self._consumer.commit(offsets=found, asynchronous=False)
        except KafkaException as error:
            self._log.warning("starting offsets unknown, the client goes on asking", text=reason(error))
            return partitions
        if found:
            self._log.info("no committed offset", begin_at={f"{tp.topic}-{tp.partition}": tp.offset for tp in found})
        known = {partition_of(tp): tp for tp in [*committed, *found] if tp.error is None and tp.offset >= 0}
        return [known.get(partition_of(tp), tp) for tp in partitions]

    def committed(self, held: Holdings) -> dict[Partition, int]:
        """What the group has committed of the partitions held, else where their reading began.

        Raises TransientError when the broker does not answer."""
        try:
            found = self._consumer.committed(bare(held), timeout=REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise self._failures.reaction(error.args[0]) from None
        targets: dict[Partition, int] = {}
        for tp in found:
            if tp.error is not None:
                raise self._failures.reaction(tp.error)
            origin = held[partition_of(tp)].origin
            targets[partition_of(tp)] = tp.offset if tp.offset >= 0 else self._reset if origin is None else origin
        return targets


def _persistently(ask: Callable[[float], list[TopicPartition]]) -> list[TopicPartition]:
    """The answer to a question with a limit in seconds, asked again while what stands against it may pass."""
    deadline_s = time.monotonic() + REQUEST_TIMEOUT_S
    while True:
        try:
            return ask(max(_RETRY_S, deadline_s - time.monotonic()))
        except KafkaException as error:
            if error.args[0].code() not in _PASSING or time.monotonic() >= deadline_s:
                raise
        time.sleep(_RETRY_S)


def topic_partitions(offsets: Offsets) -> list[TopicPartition]:
    """Next offsets as the client takes them."""
    return [TopicPartition(*at, offset) for at, offset in offsets.items()]


def partition_of(tp: TopicPartition) -> Partition:
    """The partition in our words."""
    return Partition(tp.topic, tp.partition)


def accepted(answers: Iterable[TopicPartition]) -> dict[Partition, int]:
    """Offsets that the broker took."""
    return {partition_of(answer): answer.offset for answer in answers if answer.error is None}


def _uncommitted(answer: TopicPartition) -> bool:
    return answer.error is None and answer.offset < 0


def bare(partitions: Iterable[Partition]) -> list[TopicPartition]:
    """Partitions as the client takes them."""
    return [TopicPartition(at.topic, at.partition) for at in partitions]
