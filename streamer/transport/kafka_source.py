"""The start of the road: records of a Kafka consumer group.

Enters: messages of a consumer. Leaves: Envelopes with their position and epoch. Must not know: what records hold,
labels, the pipeline behind the RebalanceListener.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from streamer.errors import FatalError, StreamerError, TransientError
from streamer.records import Envelope, Partition, Position
from streamer.transport.base import CommitToken, Lag, Offsets, RebalanceListener
from streamer.transport.kafka_client import (
    GroupProtocol,
    OffsetReset,
    Properties,
    configuration,
    connect,
    reason,
    user_error,
)

# requests made while the group rebalances or records are read again; the client repeats them until then
_REQUEST_TIMEOUT_S = 10.0

# a commit that fails so came from a member whose partitions went elsewhere: the new owner reads those records again
_NO_LONGER_OURS = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError._ASSIGNMENT_LOST,
    }
)


@dataclass(slots=True)
class _Held:
    """A partition of ours. `origin`: where its reading began with this assignment. `start`: the next offset as long
    as nothing was read since the assignment or the last rewind. Both are None while unknown."""

    epoch: int
    origin: int | None
    start: int | None
    written_ms: int | None = None


class KafkaSource:
    """A member of a consumer group, driven by one thread, that commits only what it is told to.

    `fetch_memory_mb` bounds what is fetched ahead, over all partitions. `auto_offset_reset` says where to begin when
    nothing is committed, or when what is committed is gone from the broker (which is logged).
    Raises UsageError for properties that librdkafka does not take.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        group_id: str,
        topics: Sequence[str],
        properties: Properties,
        auto_offset_reset: OffsetReset,
        group_protocol: GroupProtocol,
        group_instance_id: str | None,
        fetch_memory_mb: int,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topics = tuple(topics)
        self._reset = OFFSET_BEGINNING if auto_offset_reset == "earliest" else OFFSET_END
        self._log = structlog.get_logger()
        self._listener: RebalanceListener | None = None
        self._held: dict[Partition, _Held] = {}
        self._epochs: dict[Partition, int] = {}  # outlives assignments, so that no epoch comes twice
        self._paused: set[str] = set()
        self._failure: BaseException | None = None
        self._open = True
        ours: dict[str, object] = {
            "group.id": group_id,
            "group.protocol": group_protocol,
            "auto.offset.reset": auto_offset_reset,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "queued.max.messages.kbytes": fetch_memory_mb * 1024,
            "error_cb": self._on_client_error,
            "on_commit": self._on_committed,
        }
        if group_protocol == "classic":
            ours["partition.assignment.strategy"] = "cooperative-sticky"
        if group_instance_id is not None:
            ours["group.instance.id"] = group_instance_id
        self._consumer: Consumer = connect(Consumer, configuration(bootstrap_servers, properties, ours))

    def subscribe(self, listener: RebalanceListener) -> None:
        """See `Source.subscribe`. Raises UsageError for a topic that does not exist or may not be read."""
        self._listener = listener
        for topic in self._topics:
            self._require(topic)
        self._consumer.subscribe(
            list(self._topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self, max_records: int, timeout_s: float) -> list[Envelope[None]]:
        """See `Source.poll`. Raises UsageError too: for a topic that vanished, a refused login, missing rights."""
        try:
            # a wait for many would last until all are there, so wait for one
            messages = self._consumer.consume(max_records, 0)
            if not messages:
                messages = self._consumer.consume(1, timeout_s)
                if messages and max_records > 1:
                    messages += self._consumer.consume(max_records - 1, 0)
        except KafkaException as error:
            raise self._reaction(error.args[0]) from None
        envelopes = self._envelopes(messages)
        if not envelopes:  # what was read goes out first: after an error the caller may go on
            self._raise_failure()
        return envelopes

    def pause(self, topics: Collection[str]) -> None:
        self._paused.update(topics)
        self._consumer.pause(_bare(at for at in self._held if at.topic in topics))

    def resume(self, topics: Collection[str]) -> None:
        self._paused.difference_update(topics)
        self._consumer.resume(_bare(at for at in self._held if at.topic in topics))

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        """See `Source.commit`. Offsets of partitions no longer held are left out: they are their new owner's.

        Raises TransientError when a commit that is waited for fails, UsageError when rights are missing, FatalError
        when another member took this one's place. A member that a rebalance overtook is only logged."""
        ours = [TopicPartition(*at, offset) for at, offset in offsets.items() if at in self._held]
        if not ours:
            return
        try:
            if not wait:
                self._consumer.commit(offsets=ours, asynchronous=True)
                return
            for done in self._consumer.commit(offsets=ours, asynchronous=False):
                if done.error is not None:
                    raise KafkaException(done.error)
        except KafkaException as error:
            if error.args[0].code() not in _NO_LONGER_OURS:
                raise self._reaction(error.args[0]) from None
            self._log.warning("commit came too late", text=reason(error))

    def rewind(self, offsets: Offsets | None) -> None:
        """See `Source.rewind`. A partition without a committed offset goes back to where its reading began.

        Raises TransientError when the broker does not tell what is committed; rewind again then."""
        targets = self._committed() if offsets is None else {at: to for at, to in offsets.items() if at in self._held}
        for at in targets:
            self._epochs[at] += 1
            self._held[at].epoch = self._epochs[at]
        for at, to in targets.items():
            try:
                self._consumer.seek(TopicPartition(*at, to))
            except KafkaException as error:
                raise self._reaction(error.args[0]) from None
            self._held[at].start = to if to >= 0 else None

    def commit_token(self) -> CommitToken:
        """The consumer group metadata that a transactional producer sends along with offsets."""
        return self._consumer.consumer_group_metadata()

    def lag(self) -> Mapping[Partition, Lag]:
        """See `Source.lag`. A partition is left out until the broker's end of it was seen with a first fetch. While a
        topic is paused its end is the one last seen. Seconds count from the last record read."""
        lags: dict[Partition, Lag] = {}
        now_ms = time.time() * 1000
        for position in self._consumer.position(_bare(self._held)):
            at = Partition(position.topic, position.partition)
            held = self._held[at]
            # the client's position counts the marks that transactions leave behind, the last record's offset does not
            following = position.offset if position.offset >= 0 else held.start
            end = self._consumer.get_watermark_offsets(position, cached=True)[1]
            if following is None or end < 0:
                continue
            records = max(0, end - following)
            seconds = None if held.written_ms is None else max(0.0, (now_ms - held.written_ms) / 1000)
            lags[at] = Lag(records, seconds if records else 0.0)
        return lags

    def close(self) -> None:
        """See `Source.close`. Raises what the listener raised."""
        if self._open:
            self._open = False
            self._consumer.close()
            self._raise_failure()

    def _envelopes(self, messages: Iterable[Message]) -> list[Envelope[None]]:
        envelopes: list[Envelope[None]] = []
        for message in messages:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            error = message.error()
            if error is not None:
                self._on_message_error(error, topic)
                continue
            assert topic is not None and partition is not None and offset is not None
            at = Partition(topic, partition)
            held = self._held.get(at)
            if held is None:  # revoked while it waited in the client's queue
                continue
            if held.origin is None:
                held.origin = offset
            kind, written_ms = message.timestamp()
            held.written_ms = timestamp_ms = None if kind == TIMESTAMP_NOT_AVAILABLE else written_ms
            headers = message.headers()
            envelopes.append(
                Envelope(
                    Position(topic, partition, offset),
                    held.epoch,
                    message.key(),
                    tuple(headers) if headers else (),  # type: ignore[arg-type]  # a list of pairs when read
                    timestamp_ms,
                    message.value(),
                    None,
                )
            )
        return envelopes

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        starts = self._starts(partitions)
        consumer.incremental_assign(starts)
        consumer.pause([start for start in starts if start.topic in self._paused])
        for start in starts:
            at = Partition(start.topic, start.partition)
            known = start.offset if start.offset >= 0 else None
            self._epochs[at] = self._epochs.get(at, 0) + 1
            self._held[at] = _Held(self._epochs[at], origin=known, start=known)
        self._tell("on_assigned", partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._tell("on_revoked", partitions)
        self._forget(partitions)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget(partitions)
        self._tell("on_lost", partitions)
        consumer.incremental_unassign(partitions)

    def _tell(self, hook: str, partitions: list[TopicPartition]) -> None:
        """Call the listener; what it raises waits for the end of the poll, as the client must finish its rebalance."""
        if not partitions:
            return
        try:
            getattr(self._listener, hook)(tuple(Partition(tp.topic, tp.partition) for tp in partitions))
        except Exception as error:
            self._failure = error

    def _forget(self, partitions: list[TopicPartition]) -> None:
        for tp in partitions:
            self._held.pop(Partition(tp.topic, tp.partition), None)

    def _starts(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Where to begin: committed offsets, else the end of the topic that `auto_offset_reset` names.

        Asked here although the client would find out by itself: only so are the lag of a partition without news and
        the way back to the first record known from the beginning."""
        if not partitions:
            return partitions
        try:
            starts = self._consumer.committed(partitions, timeout=_REQUEST_TIMEOUT_S)
            new = [TopicPartition(tp.topic, tp.partition, self._reset) for tp in starts if tp.offset < 0]
            if new:
                found = self._consumer.offsets_for_times(new, timeout=_REQUEST_TIMEOUT_S)
                self._log.info(
                    "no committed offset", begin_at={f"{tp.topic}-{tp.partition}": tp.offset for tp in found}
                )
                starts = [tp for tp in starts if tp.offset >= 0] + found
        except KafkaException as error:
            self._log.warning("committed offsets unknown, the client goes on asking", text=reason(error))
            return partitions
        failed = {Partition(tp.topic, tp.partition) for tp in starts if tp.error is not None}
        return [tp for tp in starts if tp.error is None] + _bare(failed)

    def _committed(self) -> dict[Partition, int]:
        try:
            found = self._consumer.committed(_bare(self._held), timeout=_REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise self._reaction(error.args[0]) from None
        targets: dict[Partition, int] = {}
        for tp in found:
            if tp.error is not None:
                raise self._reaction(tp.error)
            at = Partition(tp.topic, tp.partition)
            origin = self._held[at].origin
            targets[at] = tp.offset if tp.offset >= 0 else self._reset if origin is None else origin
        return targets

    def _require(self, topic: str) -> None:
        """The consumer protocol never tells of a missing topic, so ask. A broker that cannot be reached yet may come
        up while we poll."""
        try:
            error = self._consumer.list_topics(topic, timeout=_REQUEST_TIMEOUT_S).topics[topic].error
        except KafkaException as unreachable:
            self._log.warning("topic not checked", topic=topic, text=reason(unreachable))
            return
        if error is not None:
            self._on_message_error(error, topic)
            self._raise_failure()

    def _on_message_error(self, error: KafkaError, topic: str | None) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            return
        known = user_error(error, topic=topic, bootstrap_servers=self._bootstrap_servers)
        if known is not None or error.fatal():
            self._failure = known or self._fatal(error)
        else:
            self._log.warning("kafka error, the client retries", topic=topic, code=error.name(), text=reason(error))

    def _on_client_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._log.warning("kafka unreachable", client="consumer", text=reason(error))
            return
        known = user_error(error, topic=None, bootstrap_servers=self._bootstrap_servers)
        if known is not None or error.fatal() or error.code() == KafkaError._FATAL:
            self._failure = known or self._fatal(error)
        # all others stand in the client's log already

    def _on_committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        for failed in [error, *(tp.error for tp in partitions)]:
            if failed is not None and failed.code() != KafkaError._NO_OFFSET:
                self._failure = user_error(failed, topic=None, bootstrap_servers=self._bootstrap_servers)
                self._log.warning("commit failed", code=failed.name(), text=reason(failed))
                return

    def _reaction(self, error: KafkaError) -> StreamerError:
        known = user_error(error, topic=None, bootstrap_servers=self._bootstrap_servers)
        if known is not None:
            return known
        return self._fatal(error) if error.fatal() else TransientError(f"Kafka: {reason(error)}")

    def _fatal(self, error: KafkaError) -> FatalError:
        return FatalError(f"Kafka put this consumer out of its group for good: {reason(error)}")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure


def _bare(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(at.topic, at.partition) for at in partitions]
