"""A bounded stretch of a topic, read once and without a group: what replay and the dead-letter tools read.

Enters: a topic and two bounds. Leaves: Envelopes from the first to the last offset between them, then `done`.
Must not know: what records hold, why they are read, offsets of a consumer group.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from streamer.errors import TransientError
from streamer.records import Envelope, Partition, Position
from streamer.transport.kafka_client import (
    Failures,
    Properties,
    configuration,
    connect,
    consume,
    headers_of,
    timestamp_of,
)

# the client wants a name, but no group is joined and nothing is committed under it
_NO_GROUP = "streamer-range-reader"
# so what the broker says of that group does not matter
_OF_THE_GROUP = frozenset({KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.COORDINATOR_NOT_AVAILABLE})


@dataclass(frozen=True, slots=True)
class AtOffset:
    """The same offset in every partition."""

    offset: int


@dataclass(frozen=True, slots=True)
class AtTime:
    """The first record written at `unix_ms` (milliseconds since 1970) or later."""

    unix_ms: int


class Edge(Enum):
    """The first record that is still there; what comes after the last one that a reader may see now."""

    BEGINNING = OFFSET_BEGINNING
    END = OFFSET_END


Bound: TypeAlias = AtOffset | AtTime | Edge


@dataclass(frozen=True, slots=True)
class Range:
    """What is to be read of one partition: offsets begin <= o < end. `expired` more before `begin` were asked for,
    but the broker has deleted them."""

    at: Partition
    begin: int
    end: int
    expired: int = 0

    def __len__(self) -> int:
        """Offsets, which are more than records where transactions or compaction leave gaps."""
        return max(0, self.end - self.begin)


def find_ranges(
    bootstrap_servers: str, properties: Properties, topic: str, *, since: Bound, until: Bound, timeout_s: float
) -> list[Range]:
    """The stretch of every partition of a topic, empty ones too, in order of partitions.

    No range goes beyond the last stable offset: what stands behind an open transaction is not waited for.
    Raises UsageError for a missing topic, missing rights, a refused login; TransientError when the broker does not
    answer in `timeout_s`.
    """
    failures = Failures(bootstrap_servers)
    consumer = _consumer(bootstrap_servers, properties, failures, fetch_memory_mb=1)
    try:
        found = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
        if found.error is not None:
            raise failures.reaction(found.error, topic)
        partitions = sorted(found.partitions)

        def offsets(bound: Bound) -> dict[int, int]:
            if isinstance(bound, AtOffset):
                return dict.fromkeys(partitions, bound.offset)
            sought = bound.unix_ms if isinstance(bound, AtTime) else bound.value
            asked = [TopicPartition(topic, partition, sought) for partition in partitions]
            answers = consumer.offsets_for_times(asked, timeout=timeout_s) if asked else []
            for answer in answers:
                if answer.error is not None:
                    raise failures.reaction(answer.error, topic)
            return {answer.partition: answer.offset for answer in answers}

        lows, ends = offsets(Edge.BEGINNING), offsets(Edge.END)
        firsts = lows if since is Edge.BEGINNING else offsets(since)
        lasts = ends if until is Edge.END else offsets(until)
    except KafkaException as error:
        consumer.poll(0)  # why it failed is told by a callback, which runs only here
        failures.raise_first()
        raise failures.reaction(error.args[0], topic) from None
    finally:
        consumer.close()
    return [
        _range(Partition(topic, partition), lows[partition], ends[partition], firsts[partition], lasts[partition])
        for partition in partitions
    ]


class RangeReader:
    """Reads ranges, one of each partition at most, in order within each partition; transactions that were aborted are
    left out. Driven by one thread.

    `fetch_memory_mb` bounds what is fetched ahead. `patience_s`: the time that polls may wait in a row without any
    progress, which records that are there never need.
    Raises UsageError for properties that librdkafka does not take.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        properties: Properties,
        ranges: Sequence[Range],
        fetch_memory_mb: int,
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures = Failures(bootstrap_servers)
        self._patience_s = patience_s
        self._waited_s = 0.0
        self._clock = clock
        self._open = True
        self._consumer = _consumer(bootstrap_servers, properties, self._failures, fetch_memory_mb=fetch_memory_mb)
        self.read_next(ranges)

    def read_next(self, ranges: Sequence[Range]) -> None:
        """Read these ranges in place of those before, through the same client."""
        self._waited_s = 0.0
        self._ends = {one.at: one.end for one in ranges if one.end > one.begin}
        self._next = {one.at: min(one.begin, one.end) for one in ranges}
        self._consumer.assign([TopicPartition(*at, self._next[at]) for at in self._ends])

    @property
    def done(self) -> bool:
        """Whether every range was read to its end."""
        return not self._ends

    def position(self) -> dict[Partition, int]:
        """The next offset to read, of every range; its end when it was read."""
        return dict(self._next)

    def poll(self, max_records: int, timeout_s: float) -> list[Envelope[None]]:
        """Up to `max_records` records (epoch 0), waiting at most `timeout_s` for the first; none when done.

        Raises UsageError for a refused login and missing rights, FatalError when the client cannot go on,
        TransientError when nothing came for `patience_s` (the broker is away, the topic was deleted)."""
        self._failures.raise_first()
        if self.done:
            return []
        before, began_s = dict(self._next), self._clock()
        envelopes = self._envelopes(consume(self._consumer, self._failures, max_records, timeout_s))
        self._leave_what_is_read()
        self._waited_s = 0.0 if self._next != before else self._waited_s + self._clock() - began_s
        if not envelopes:  # what was read goes out first, the next poll raises
            self._failures.raise_first()
            if self._ends and self._waited_s >= self._patience_s:
                at, end = next(iter(self._ends.items()))
                raise TransientError(
                    f"topic {at.topic!r}: nothing came for {self._waited_s:.0f} s, though partition {at.partition} "
                    f"was to be read from offset {self._next[at]} to {end}; check the broker and try again"
                )
        return envelopes

    def close(self) -> None:
        """Let go of the broker."""
        if self._open:
            self._open = False
            self._consumer.close()

    def _envelopes(self, messages: Iterable[Message]) -> list[Envelope[None]]:
        envelopes: list[Envelope[None]] = []
        for message in messages:
            if (error := message.error()) is not None and error.code() != KafkaError._PARTITION_EOF:
                if error.code() not in _OF_THE_GROUP:
                    self._failures.on_error(error, message.topic())
                continue
            position = Position(message.topic(), message.partition(), message.offset())  # type: ignore[arg-type]
            end = self._ends.get(position.at)
            if end is None:  # read to its end, and this was fetched ahead
                continue
            if error is not None:  # the end of what there is: nothing stands between here and there
                self._next[position.at] = min(position.offset, end)
                continue
            self._next[position.at] = min(position.offset + 1, end)
            if position.offset < end:
                envelopes.append(_envelope(message, position))
        return envelopes

    def _leave_what_is_read(self) -> None:
        """Give up partitions at their end. The client's position counts the marks that transactions leave behind and
        the records that were aborted, which never come as messages."""
        for tp in self._consumer.position([TopicPartition(*at) for at in self._ends]):
            at = Partition(tp.topic, tp.partition)
            if tp.offset >= 0:
                self._next[at] = min(max(tp.offset, self._next[at]), self._ends[at])
        read = [at for at, end in self._ends.items() if self._next[at] >= end]
        if read:
            self._consumer.incremental_unassign([TopicPartition(*at) for at in read])
            for at in read:
                del self._ends[at]


def _consumer(bootstrap_servers: str, properties: Properties, failures: Failures, *, fetch_memory_mb: int) -> Consumer:
    ours: dict[str, object] = {
        "group.id": _NO_GROUP,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        # records may expire between the question for the range and its reading: begin at what is left then
        "auto.offset.reset": "earliest",
        "queued.max.messages.kbytes": fetch_memory_mb * 1024,
        "error_cb": failures.on_client_error,
    }
    client: Consumer = connect(Consumer, configuration(bootstrap_servers, properties, ours))
    return client


def _range(at: Partition, low: int, end: int, first: int, last: int) -> Range:
    """`first` and `last` are answers of the broker: negative where there is no such record."""
    last = end if last < 0 else min(last, end)
    first = end if first < 0 else first
    begin = min(max(first, low), max(last, low))
    return Range(at, begin, max(last, begin), expired=max(0, min(low, last) - first))


def _envelope(message: Message, position: Position) -> Envelope[None]:
    return Envelope(position, 0, message.key(), headers_of(message), timestamp_of(message), message.value(), None)
