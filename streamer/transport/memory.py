"""A broker, a source and a sink in plain memory: one thread, no clock of its own, the same course every time.

Enters: topics, records and rebalances that a test makes. Leaves: what Kafka's source and sink would do with them,
without waiting: partitions, committed offsets, rewinds, transactions, refusals. Must not know: Kafka's client.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from streamer.errors import FatalError, TransientError, UsageError
from streamer.records import Envelope, Headers, Outbound, Partition, Position
from streamer.transport.base import CommitToken, DeliveryOutcome, Lag, Offsets, OnDelivered, RebalanceListener, Refused
from streamer.transport.holdings import Holdings

# where `fault` may raise: each step of a source or sink that can fail on a real broker
Step: TypeAlias = Literal["poll", "commit", "rewind", "begin", "transaction", "transaction done", "abort"]


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a topic keeps it."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None


@dataclass(frozen=True, slots=True)
class MemoryToken:
    """A member at one generation; a rebalance makes it worthless."""

    member: MemorySource
    generation: int


def no_fault(step: Step) -> None:
    """Every step succeeds."""


def accept(message: Outbound) -> DeliveryOutcome:
    """Every message within the limit is taken."""
    return None


class MemoryBroker:
    """Topics of `partitions` partitions each, made by the first message or by `create_topic`.

    Messages whose key, value and headers exceed `max_message_bytes` are refused. `now_ms` stamps messages without a
    timestamp. `fault` is called at each step and raises to make it fail; `deliver` tells the fate of each message,
    None to take it. Sources of one group share its committed offsets: a source is given, at its first poll, the
    partitions of its topics that no other source of the group holds; after that `assign`, `revoke` and `lose` move
    them, at the next poll of the source they name.
    """

    def __init__(
        self,
        *,
        partitions: int,
        max_message_bytes: int,
        now_ms: Callable[[], int],
        fault: Callable[[Step], None] = no_fault,
        deliver: Callable[[Outbound], DeliveryOutcome] = accept,
    ) -> None:
        self.now_ms = now_ms
        self.fault = fault
        self._partitions = partitions
        self._max_message_bytes = max_message_bytes
        self._deliver = deliver
        self._logs: dict[str, list[list[Stored]]] = {}
        self._keyless = 0
        self._committed: dict[tuple[str, Partition], int] = {}
        self._holders: dict[tuple[str, Partition], MemorySource] = {}

    def create_topic(self, topic: str) -> None:
        """A topic that exists stays as it is."""
        self._logs.setdefault(topic, [[] for _ in range(self._partitions)])

    def partitions(self, topic: str) -> list[Partition]:
        return [Partition(topic, number) for number in range(len(self._logs.get(topic, ())))]

    def produce(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
        partition: int | None = None,
    ) -> Position:
        """Append a message; a key always goes to the same partition, messages without one go round."""
        self.create_topic(topic)
        if partition is None and key is None:
            partition = self._keyless % self._partitions
            self._keyless += 1
        elif partition is None:
            partition = zlib.crc32(key or b"") % self._partitions
        log = self._logs[topic][partition]
        log.append(Stored(key, value, headers, self.now_ms() if timestamp_ms is None else timestamp_ms))
        return Position(topic, partition, len(log) - 1)

    def messages(self, topic: str) -> dict[Position, Stored]:
        """All of a topic, by partition and offset: what a read_committed reader sees."""
        logs = enumerate(self._logs.get(topic, ()))
        return {Position(topic, number, offset): stored for number, log in logs for offset, stored in enumerate(log)}

    def log(self, at: Partition) -> Sequence[Stored]:
        return self._logs[at.topic][at.partition]

    def judge(self, message: Outbound) -> DeliveryOutcome:
        """What becomes of a message that is sent: None when it is taken."""
        parts = [message.key, message.value, *(part for name, value in message.headers for part in (name, value))]
        size = sum(len(part) for part in parts if part is not None)
        if size > self._max_message_bytes:
            return Refused(f"message of {size} bytes, at most {self._max_message_bytes} are taken")
        return self._deliver(message)

    def committed(self, group_id: str, at: Partition) -> int | None:
        return self._committed.get((group_id, at))

    def commit(self, group_id: str, offsets: Offsets) -> None:
        self._committed.update({(group_id, at): offset for at, offset in offsets.items()})

    def assign(self, source: MemorySource, partitions: Iterable[Partition]) -> None:
        """Give partitions to a source, as soon as their holder has let them go."""
        source.schedule("assign", partitions)

    def revoke(self, source: MemorySource, partitions: Iterable[Partition]) -> None:
        """Take partitions back; the source may finish with them first."""
        source.schedule("revoke", partitions)

    def lose(self, source: MemorySource, partitions: Collection[Partition]) -> None:
        """Take partitions away at once: commits of the source for them count no more, and others may have them."""
        for at in partitions:
            self.release(source, at)
        source.schedule("lose", partitions)

    def hold(self, source: MemorySource, at: Partition) -> bool:
        """Make `source` the holder of a free partition of its group; false when another holds it."""
        return self._holders.setdefault((source.group_id, at), source) is source

    def release(self, source: MemorySource, at: Partition) -> None:
        if self.holds(source, at):
            del self._holders[source.group_id, at]

    def holds(self, source: MemorySource, at: Partition) -> bool:
        return self._holders.get((source.group_id, at)) is source


class MemorySource:
    """A member of a group at a MemoryBroker. `poll` returns at once whatever its timeout: nobody writes meanwhile."""

    def __init__(
        self,
        *,
        broker: MemoryBroker,
        group_id: str,
        topics: Sequence[str],
        auto_offset_reset: Literal["earliest", "latest"],
    ) -> None:
        self.group_id = group_id
        self.generation = 0
        self._broker = broker
        self._topics = tuple(topics)
        self._from_start = auto_offset_reset == "earliest"
        self._held = Holdings()
        self._next: dict[Partition, int] = {}
        self._paused: set[str] = set()
        self._due: deque[tuple[str, list[Partition]]] = deque()
        self._turn = 0

    def subscribe(self, listener: RebalanceListener) -> None:
        """Raises UsageError for a topic that does not exist."""
        for topic in self._topics:
            if not self._broker.partitions(topic):
                raise UsageError(f"topic {topic!r} does not exist: create it, or correct its name in the settings")
        self._listener = listener
        wanted = [at for topic in self._topics for at in self._broker.partitions(topic)]
        self.schedule("assign", [at for at in wanted if self._broker.hold(self, at)])

    def schedule(self, change: Literal["assign", "revoke", "lose"], partitions: Iterable[Partition]) -> None:
        """Rebalance at the next poll; tests say so to the broker."""
        self._due.append((change, list(partitions)))

    def poll(self, max_records: int, timeout_s: float) -> list[Envelope[None]]:
        self._broker.fault("poll")
        for _ in range(len(self._due)):
            self._rebalance(*self._due.popleft())
        self._turn += 1  # each poll begins with another partition, so that none starves
        order = [at for at in self._held if at.topic not in self._paused]
        first = self._turn % len(order) if order else 0
        records: list[Envelope[None]] = []
        for at in order[first:] + order[:first]:
            records += self._read(at, max_records - len(records))
        return records

    def pause(self, topics: Collection[str]) -> None:
        self._paused.update(topics)

    def resume(self, topics: Collection[str]) -> None:
        self._paused.difference_update(topics)

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        try:
            self._broker.fault("commit")
        except TransientError:
            if wait:
                raise
            return
        self._broker.commit(self.group_id, {at: to for at, to in offsets.items() if self._broker.holds(self, at)})

    def rewind(self, offsets: Offsets | None) -> None:
        self._broker.fault("rewind")
        for at in list(self._held):
            if offsets is None or at in offsets:
                to = self._beginning(at) if offsets is None else offsets[at]
                self._held.rewind(at, to)
                self._next[at] = to

    def commit_token(self) -> CommitToken:
        return MemoryToken(self, self.generation)

    def lag(self) -> Mapping[Partition, Lag]:
        lags: dict[Partition, Lag] = {}
        for at in self._held:
            unread = self._broker.log(at)[self._next[at] :]
            written_ms = unread[0].timestamp_ms if unread else self._broker.now_ms()
            seconds = None if written_ms is None else max(0.0, (self._broker.now_ms() - written_ms) / 1000)
            lags[at] = Lag(len(unread), seconds)
        return lags

    def close(self) -> None:
        self._due.clear()
        self._rebalance("revoke", list(self._held))

    def _rebalance(self, change: str, partitions: list[Partition]) -> None:
        if change == "assign":
            self._take(partitions)
            return
        ours = [at for at in partitions if at in self._held]
        if not ours:
            return
        if change == "revoke":
            self._listener.on_revoked(ours)
        self._held.drop(ours)
        self.generation += 1
        for at in ours:
            self._broker.release(self, at)
        if change == "lose":
            self._listener.on_lost(ours)

    def _take(self, partitions: list[Partition]) -> None:
        free = [at for at in partitions if at not in self._held and self._broker.hold(self, at)]
        waiting = [at for at in partitions if not self._broker.holds(self, at)]
        if waiting:
            self.schedule("assign", waiting)
        if not free:
            return
        self.generation += 1
        for at in free:
            committed = self._broker.committed(self.group_id, at)
            begin = 0 if self._from_start else len(self._broker.log(at))
            self._next[at] = begin if committed is None else committed
            self._held.take(at, self._next[at])
        self._listener.on_assigned(free)

    def _beginning(self, at: Partition) -> int:
        committed = self._broker.committed(self.group_id, at)
        return (self._held[at].origin or 0) if committed is None else committed

    def _read(self, at: Partition, most: int) -> list[Envelope[None]]:
        begin = self._next[at]
        fetched = self._broker.log(at)[begin : begin + most]
        self._next[at] = begin + len(fetched)
        epoch = self._held[at].epoch
        return [
            Envelope(Position(*at, offset), epoch, one.key, one.headers, one.timestamp_ms, one.value, None)
            for offset, one in enumerate(fetched, begin)
        ]


class MemorySink:
    """Writes to a MemoryBroker. With `transactional`, nothing is in its topics before the transaction commits.

    `hold` and `release` stop and resume acknowledgements, as a slow broker would. `commit` and `abort` raise what
    `fault` raises; "transaction done" comes after the commit took effect, so raising there loses the answer only.
    """

    def __init__(self, *, broker: MemoryBroker, transactional: bool) -> None:
        self._broker = broker
        self._transactional = transactional
        self._unreported: deque[tuple[OnDelivered, DeliveryOutcome]] = deque()
        self._open: list[Outbound] | None = None
        self._failed = False
        self._held_back = False

    def hold(self) -> None:
        """Acknowledge nothing until `release`; what is sent is written all the same."""
        self._held_back = True

    def release(self) -> None:
        self._held_back = False

    def send(self, message: Outbound, on_delivered: OnDelivered) -> None:
        self._report()
        if self._transactional and self._open is None:
            raise FatalError("a transactional sink was sent a message outside a transaction")
        outcome = self._broker.judge(message)
        self._unreported.append((on_delivered, outcome))
        if outcome is not None:
            self._failed = True
        elif self._open is not None:
            self._open.append(message)
        else:
            self._write(message)

    def flush(self, timeout_s: float) -> int:
        self._report()
        return len(self._unreported)

    def begin(self) -> None:
        if self._transactional:
            if self._open is not None:
                raise FatalError("a transaction is open already")
            self._broker.fault("begin")
            self._open, self._failed = [], False

    def commit(self, offsets: Offsets, token: CommitToken) -> None:
        """Raises TransientError, and the caller must abort: when a message of the transaction was not taken, and when
        a rebalance made the token worthless."""
        if not self._transactional:
            return
        if self._open is None or not isinstance(token, MemoryToken):
            raise FatalError("commit needs an open transaction and the token of a MemorySource")
        self._broker.fault("transaction")
        if self._failed or token.generation != token.member.generation:
            raise TransientError("the transaction cannot commit: a message was not taken or the group has rebalanced")
        written, self._open = self._open, None
        for message in written:
            self._write(message)
        self._broker.commit(token.member.group_id, offsets)
        self._broker.fault("transaction done")

    def abort(self) -> None:
        if self._transactional:
            self._broker.fault("abort")
            self._open = None
            self._unreported.clear()

    def close(self) -> None:
        self._open = None
        self._unreported.clear()

    def _report(self) -> None:
        while self._unreported and not self._held_back:
            on_delivered, outcome = self._unreported.popleft()
            on_delivered(outcome)

    def _write(self, message: Outbound) -> None:
        self._broker.produce(
            message.topic, message.value, key=message.key, headers=message.headers, timestamp_ms=message.timestamp_ms
        )
