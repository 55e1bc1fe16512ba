"""The start of the road: records of a Kafka consumer group.

Enters: messages of a consumer. Leaves: Envelopes with their position and epoch. Must not know: what records hold,
labels, the pipeline behind the GroupListener.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streamer.records import Envelope, Partition, Position
from streamer.transport.base import CommitToken, GroupListener, Lag, Offsets
from streamer.transport.holdings import Held, Holdings
from streamer.transport.kafka_client import (
    Failures,
    GroupProtocol,
    OffsetReset,
    Properties,
    configuration,
    connect,
    consume,
    headers_of,
    reason,
    timestamp_of,
)
from streamer.transport.kafka_positions import REQUEST_TIMEOUT_S, Positions, accepted, bare, partition_of

# how long a commit that is waited for is tried while the group rebalances: members answer within a heartbeat or two
_REBALANCE_S = 8.0
_AGAIN_S = 0.1
_NEWS_S = 1.0  # until all brokers of a cluster know of a topic that was made at one of them
_FETCH_BYTES = 52_428_800  # librdkafka's own default

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
        self._topics = tuple(topics)
        self._log = structlog.get_logger()
        self._held = Holdings()
        self._paused: set[str] = set()
        self._failures = Failures(bootstrap_servers)
        self._open = True
        self._telling = False  # the listener of a rebalance
        ours: dict[str, object] = {
            "group.id": group_id,
            "group.protocol": group_protocol,
            "auto.offset.reset": auto_offset_reset,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "queued.max.messages.kbytes": fetch_memory_mb * 1024,
            # of one request: without it the last fetch of a nearly full queue may exceed the budget by 50 MB
            "fetch.max.bytes": min(_FETCH_BYTES, fetch_memory_mb * 1024 * 1024),
            "error_cb": self._failures.on_client_error,
            "on_commit": self._on_committed,
        }
        if group_protocol == "classic":
            ours["partition.assignment.strategy"] = "cooperative-sticky"
        if group_instance_id is not None:
            ours["group.instance.id"] = group_instance_id
        self._consumer: Consumer = connect(Consumer, configuration(bootstrap_servers, properties, ours))
        self._positions = Positions(consumer=self._consumer, reset=auto_offset_reset, failures=self._failures)

    def subscribe(self, listener: GroupListener) -> None:
        """See `Source.subscribe`. Raises UsageError for a topic that does not exist or may not be read."""
        self._require_topics()
        self._listener = listener
        self._consumer.subscribe(
            list(self._topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self, max_records: int, timeout_s: float) -> list[Envelope[None]]:
        """See `Source.poll`. Raises UsageError too: for a topic that vanished, a refused login, missing rights."""
        self._failures.raise_first()
        envelopes = self._envelopes(consume(self._consumer, self._failures, max_records, timeout_s))
        if not envelopes:  # what was read goes out first, the next poll raises
            self._failures.raise_first()
        return envelopes

    def pause(self, topics: Collection[str]) -> None:
        self._paused.update(topics)
        self._consumer.pause(bare(self._held.of(topics)))

    def resume(self, topics: Collection[str]) -> None:
        self._paused.difference_update(topics)
        self._consumer.resume(bare(self._held.of(topics)))

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        """See `Source.commit`. Offsets of partitions no longer held are left out: they are their new owner's.

        With `wait`, raises TransientError when the commit fails or the broker is away for 5 s, UsageError when rights
        are missing, FatalError when another member took this one's place; without, a later poll does (but for the
        first). A commit that a rebalance overtook is only logged."""
        ours = [TopicPartition(*at, offset) for at, offset in offsets.items() if at in self._held]
        if not ours:
            self._listener.on_committed({})
            return
        try:
            if not wait:
                self._consumer.commit(offsets=ours, asynchronous=True)
                return
            if self._open:
                # a commit has no timeout and waits 45 s for a coordinator that is away; a question is bounded, but
                # is not answered any more while the consumer closes
                self._consumer.committed(ours, timeout=REQUEST_TIMEOUT_S)
            answers = self._commit_and_wait(ours)
        except KafkaException as error:
            self._listener.on_committed({})
            self._on_failed_commit(error.args[0])
            return
        self._listener.on_committed(accepted(answers))
        for answer in answers:
            if answer.error is not None:
                self._on_failed_commit(answer.error)

    def _commit_and_wait(self, offsets: list[TopicPartition]) -> list[TopicPartition]:
        """While a group rebalances it takes no commits, and these partitions may well stay ours: so try again, but not
        from within the rebalance's own callback, which would wait for itself. The client answers the group by itself
        meanwhile."""
        deadline_s = time.monotonic() + _REBALANCE_S
        while True:
            try:
                return self._consumer.commit(offsets=offsets, asynchronous=False)
            except KafkaException as error:
                later = error.args[0].code() == KafkaError.REBALANCE_IN_PROGRESS and self._open and not self._telling
                if not later or time.monotonic() >= deadline_s:
                    raise
            time.sleep(_AGAIN_S)

    def _on_failed_commit(self, error: KafkaError) -> None:
        if error.code() not in _NO_LONGER_OURS:
            raise self._failures.reaction(error)
        self._log.warning("commit came too late", text=reason(error))

    def rewind(self, offsets: Offsets | None) -> None:
        """See `Source.rewind`. A partition without a committed offset goes back to where its reading began.

        Raises TransientError when the broker does not answer; rewind again then."""
        if offsets is None:
            targets = self._positions.committed(self._held)
        else:
            targets = {at: to for at, to in offsets.items() if at in self._held}
        for at, to in targets.items():
            self._held.rewind(at, to if to >= 0 else None)
            try:
                self._consumer.seek(TopicPartition(*at, to))
            except KafkaException as error:
                raise self._failures.reaction(error.args[0]) from None

    def commit_token(self) -> CommitToken:
        """The consumer group metadata that a transactional producer sends along with offsets."""
        return self._consumer.consumer_group_metadata()

    def lag(self) -> Mapping[Partition, Lag]:
        """See `Source.lag`. A partition is left out until the broker's end of it was seen with a first fetch. While a
        topic is paused its end is the one last seen. Seconds count from the last record read."""
        lags: dict[Partition, Lag] = {}
        now_ms = time.time() * 1000
        for position in self._consumer.position(bare(self._held)):
            held = self._held[partition_of(position)]
            # the client's position counts the marks that transactions leave behind, the last record's offset does not
            following = position.offset if position.offset >= 0 else held.start
            end = self._consumer.get_watermark_offsets(position, cached=True)[1]
            if following is None or end < 0:
                continue
            records = max(0, end - following)
            seconds = None if held.written_ms is None else max(0.0, (now_ms - held.written_ms) / 1000)
            lags[partition_of(position)] = Lag(records, seconds if records else 0.0)
        return lags

    def close(self) -> None:
        """See `Source.close`. Raises what the listener raised. While the broker is away, waits up to the session
        timeout (session.timeout.ms, 45 s) for commits under way or made by the listener."""
        if self._open:
            self._open = False
            self._consumer.close()
            self._failures.raise_first()

    def _envelopes(self, messages: Iterable[Message]) -> list[Envelope[None]]:
        envelopes: list[Envelope[None]] = []
        at: Partition | None = None
        held: Held | None = None
        new = tuple.__new__
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    self._failures.on_error(error, message.topic())
                continue
            position = new(Position, (message.topic(), message.partition(), message.offset()))
            if position[:2] != at:  # a partition's messages come many in a row
                at = position.at
                held = self._held.get(at)
            if held is None:  # revoked while it waited in the client's queue
                continue
            if held.origin is None:
                held.origin = position.offset
            held.written_ms = timestamp_ms = timestamp_of(message)
            record = (position, held.epoch, message.key(), headers_of(message), timestamp_ms, message.value(), None)
            envelopes.append(new(Envelope, record))
        return envelopes

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        starts = self._positions.starts(partitions)
        consumer.incremental_assign(starts)
        consumer.pause([start for start in starts if start.topic in self._paused])
        # a partition that was paused when it went away is paused when it comes back, whatever was resumed meanwhile
        consumer.resume([start for start in starts if start.topic not in self._paused])
        for start in starts:
            self._held.take(partition_of(start), start.offset if start.offset >= 0 else None)
        self._tell(self._listener.on_assigned, partitions)  # of none, too: an idle member has its place in the group

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if partitions:
            self._tell(self._listener.on_revoked, partitions)
        self._held.drop(partition_of(tp) for tp in partitions)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._held.drop(partition_of(tp) for tp in partitions)
        if partitions:
            self._tell(self._listener.on_lost, partitions)
        consumer.incremental_unassign(partitions)

    def _tell(self, hook: Callable[[Collection[Partition]], None], partitions: list[TopicPartition]) -> None:
        """What the listener raises waits for the end of the poll, as the client must finish its rebalance first."""
        self._telling = True
        try:
            hook(tuple(map(partition_of, partitions)))
        except Exception as error:
            self._failures.keep(error)
        finally:
            self._telling = False

    def _require_topics(self) -> None:
        """The consumer protocol never tells of a missing topic, so ask. A broker that cannot be reached yet may come
        up while we poll."""
        deadline_s = time.monotonic() + _NEWS_S
        for topic in self._topics:
            try:
                while (error := self._topic_error(topic)) is not None and time.monotonic() < deadline_s:
                    time.sleep(_AGAIN_S)
            except KafkaException as unreachable:
                self._log.warning("topics not checked", text=reason(unreachable))
                return
            if error is not None:
                self._failures.on_error(error, topic)
                self._failures.raise_first()

    def _topic_error(self, topic: str) -> KafkaError | None:
        error: KafkaError | None = self._consumer.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic].error
        return error

    def _on_committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._listener.on_committed({} if error is not None else accepted(partitions))
        for failed in [error, *(tp.error for tp in partitions)]:
            if failed is not None:
                self._failures.on_error(failed)
                return
