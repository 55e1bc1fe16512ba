"""What transactions do to a cluster, and ending one: what librdkafka offers.

Enters: an address, properties, topics, a transactional id. Leaves: plain facts, or a UsageError. Only `take_over`
changes anything. Must not know: which transactional ids are ours, settings.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    ListOffsetsResultInfo,
    OffsetSpec,
    ResourceType,
)

from streamer.errors import FatalError, StreamerError, TransientError, UsageError
from streamer.records import Partition
from streamer.transport.kafka_client import Failures, Properties, code, configuration, connect, reason

GROUP_OFFSETS = "__consumer_offsets"
_LIMIT = "transaction.max.timeout.ms"


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A partition with an unfinished transaction: a read_committed reader gets nothing from `stable_offset` on,
    though the partition ends at `end_offset`."""

    stable_offset: int
    end_offset: int


class TransactionAdmin:
    """Questions about partitions and brokers; each is bounded by `timeout_s`. What this user may not see, or what no
    broker answers for, is left out of the answers."""

    def __init__(self, bootstrap_servers: str, properties: Properties, timeout_s: float) -> None:
        self._client: AdminClient = connect(AdminClient, configuration(bootstrap_servers, properties, {}))
        self._timeout_s = timeout_s

    def held_back(self, partitions: Collection[Partition]) -> dict[Partition, HeldBack]:
        """Those of `partitions` whose last stable offset is not their end.

        The end is asked first: a transaction that ends between the two questions is none that stands still.
        """
        ends = self._latest(partitions, IsolationLevel.READ_UNCOMMITTED)
        stable = self._latest(ends, IsolationLevel.READ_COMMITTED)
        return {at: HeldBack(offset, ends[at]) for at, offset in stable.items() if offset < ends[at]}

    def offsets_held_back(self, group_id: str, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Those of `partitions` whose offset of this group waits for the end of a transaction -> offset before it
        (negative: none).

        A member that reads committed records cannot take such a partition up.
        """
        waiting = [at for at, (_, error) in self._committed(group_id, partitions, stable=True).items() if error]
        before = self._committed(group_id, waiting, stable=False)
        return {at: offset for at, (offset, error) in before.items() if not error}

    def longest_timeout_ms(self) -> int | None:
        """The longest transaction timeout that every broker takes; None where it cannot be read."""
        try:
            brokers = self._client.list_topics(timeout=self._timeout_s).brokers
            resources = [ConfigResource(ResourceType.BROKER, str(number)) for number in brokers]
            pending: Mapping[Any, Future[dict[str, Any]]] = self._client.describe_configs(
                resources, request_timeout=self._timeout_s
            )
            return min(int(answer.result()[_LIMIT].value) for answer in pending.values())
        except (KafkaException, KeyError):
            return None

    def _committed(
        self, group_id: str, partitions: Collection[Partition], *, stable: bool
    ) -> dict[Partition, tuple[int, bool]]:
        """Committed offset, and whether it waits for a transaction."""
        if not partitions:
            return {}
        wanted = ConsumerGroupTopicPartitions(group_id, [TopicPartition(at.topic, at.partition) for at in partitions])
        pending = self._client.list_consumer_group_offsets(
            [wanted], require_stable=stable, request_timeout=self._timeout_s
        )
        try:
            answer = pending[group_id].result()
        except KafkaException:
            return {}
        return {
            Partition(one.topic, one.partition): (one.offset, one.error is not None)
            for one in answer.topic_partitions
            if one.error is None or one.error.code() == KafkaError.UNSTABLE_OFFSET_COMMIT
        }

    def _latest(self, partitions: Collection[Partition], isolation: IsolationLevel) -> dict[Partition, int]:
        if not partitions:
            return {}
        wanted = {TopicPartition(at.topic, at.partition): OffsetSpec.latest() for at in partitions}  # type: ignore[no-untyped-call]
        pending: Mapping[TopicPartition, Future[ListOffsetsResultInfo]] = self._client.list_offsets(
            wanted, isolation_level=isolation, request_timeout=self._timeout_s
        )
        found: dict[Partition, int] = {}
        for at, answer in pending.items():
            try:
                found[Partition(at.topic, at.partition)] = answer.result().offset
            except KafkaException:
                continue
        return found


def take_over(
    bootstrap_servers: str,
    properties: Properties,
    *,
    transactional_id: str,
    transaction_timeout_s: float,
    timeout_s: float,
) -> None:
    """Make a producer with this id and let it go again: the broker aborts what the id left open, and fences a process
    that still holds it.

    Raises UsageError when the broker refuses, TransientError when it does not answer in `timeout_s`.
    """
    timeout_ms = int(transaction_timeout_s * 1000)
    ours = {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": timeout_ms,
        "message.timeout.ms": timeout_ms,
    }
    # a fatal error would stand in the client's log, too
    silent = logging.Logger("take_over", logging.CRITICAL + 1)
    config = configuration(bootstrap_servers, properties, ours)
    producer: Producer = connect(lambda config, logger: Producer(config, logger=silent), config)
    try:
        producer.init_transactions(timeout_s)
    except KafkaException as error:
        raise _refusal(bootstrap_servers, transactional_id, error) from None
    finally:
        with suppress(KafkaException):  # a client that was refused says so once more
            producer.close()


def _refusal(bootstrap_servers: str, transactional_id: str, error: KafkaException) -> StreamerError:
    where = f"transactional id '{transactional_id}'"
    if code(error) == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return UsageError(f"{where}: Kafka denies access; grant this user Write on that transactional id")
    reaction = Failures(bootstrap_servers).reaction(error.args[0])
    if isinstance(reaction, UsageError):
        return UsageError(f"{where}: {reaction}")
    if isinstance(reaction, TransientError):
        return TransientError(f"{where}: not aborted, {reason(error)}; try again")
    return FatalError(f"{where}: not aborted, {reason(error)}")
