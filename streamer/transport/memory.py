"""A source and a sink in plain memory: one thread, no clock of its own, the same course every time.

Enters: a MemoryBroker, and what a test does to it. Leaves: what Kafka's source and sink would do: partitions, committed
offsets, rewinds, epochs, refusals. Must not know: Kafka's client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from streamer.errors import TransientError, UsageError
from streamer.records import Envelope, Outbound, Partition, Position
from streamer.transport.base import CommitToken, DeliveryOutcome, GroupListener, Lag, Offsets, OnDelivered
from streamer.transport.holdings import Holdings
from streamer.transport.memory_broker import Change, MemoryBroker, Stored

__all__ = ["MemoryBroker", "MemorySink", "MemorySource", "MemoryToken", "Stored"]


@dataclass(frozen=True, slots=True)
class MemoryToken:
    """A member at one generation; a rebalance makes it worthless."""

    member: MemorySource
    generation: int


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
        self._broker = broker
        self._generation = 0
        self._topics = tuple(topics)
        self._from_start = auto_offset_reset == "earliest"
        self._held = Holdings()
        self._next: dict[Partition, int] = {}
        self._paused: set[str] = set()
        self._due: deque[tuple[Change, list[Partition]]] = deque()
        self._answers: deque[Offsets] = deque()
        self._turn = 0

    def subscribe(self, listener: GroupListener) -> None:
        """Raises UsageError for a topic that does not exist."""
        for topic in self._topics:
            if not self._broker.partitions(topic):
                raise UsageError(f"topic {topic!r} does not exist: create it, or correct its name in the settings")
        self._listener = listener
        wanted = [at for topic in self._topics for at in self._broker.partitions(topic)]
        self.schedule("assign", [at for at in wanted if self._broker.hold(self, at)])

    def schedule(self, change: Change, partitions: Iterable[Partition]) -> None:
        """Rebalance at the next poll; the broker's `assign`, `revoke` and `lose` call it."""
        self._due.append((change, list(partitions)))

    def poll(self, max_records: int, timeout_s: float) -> list[Envelope[None]]:
        self._broker.fault("poll")
        while self._answers:
            self._listener.on_committed(self._answers.popleft())
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
        done: Offsets = {}
        try:
            self._broker.fault("commit")
        except TransientError:
            if wait:
                self._listener.on_committed(done)
                raise
        else:
            done = {at: to for at, to in offsets.items() if self._broker.holds(self, at)}
            self._broker.commit(self.group_id, done)
        if wait:
            self._listener.on_committed(done)
        else:
            self._answers.append(done)

    def rewind(self, offsets: Offsets | None) -> None:
        self._broker.fault("rewind")
        for at in list(self._held):
            if offsets is None or at in offsets:
                to = self._broker.committed(self.group_id, at) or 0 if offsets is None else offsets[at]
                self._held.rewind(at, to)
                self._next[at] = to

    def commit_token(self) -> CommitToken:
        return MemoryToken(self, self._generation)

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
        try:
            self._rebalance("revoke", list(self._held))
        finally:
            self._leave()

    def _leave(self) -> None:
        for at in [at for topic in self._topics for at in self._broker.partitions(topic)]:
            self._broker.release(self, at)  # also what waited for a first poll

    def _rebalance(self, change: Change, partitions: list[Partition]) -> None:
        if change == "assign":
            self._take(partitions)
            return
        ours = [at for at in partitions if at in self._held]
        if not ours:
            return
        try:
            if change == "revoke":
                self._listener.on_revoked(ours)
        finally:
            self._held.drop(ours)
            self._generation = self._broker.rebalanced(self)
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
        self._generation = self._broker.rebalanced(self)
        for at in free:
            if not self._from_start and self._broker.committed(self.group_id, at) is None:
                self._broker.commit(self.group_id, {at: len(self._broker.log(at))})
            self._next[at] = self._broker.committed(self.group_id, at) or 0
            self._held.take(at, self._next[at])
        self._listener.on_assigned(free)

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
    """Writes to a MemoryBroker; full with `most` messages that are not acknowledged.

    `hold` and `release` stop and resume acknowledgements, as a slow broker would.
    """

    def __init__(self, *, broker: MemoryBroker, most: int = 1_000_000) -> None:
        self._broker = broker
        self._most = most
        self._unreported: deque[tuple[OnDelivered, DeliveryOutcome]] = deque()
        self._held_back = False

    def hold(self) -> None:
        """Acknowledge nothing until `release`; what is sent is written all the same."""
        self._held_back = True

    def release(self) -> None:
        self._held_back = False

    @property
    def full(self) -> bool:
        return len(self._unreported) >= self._most

    def send(self, message: Outbound, on_delivered: OnDelivered) -> None:
        self._report()
        outcome = self._broker.judge(message)
        self._unreported.append((on_delivered, outcome))
        self._take(message, outcome)

    def flush(self, timeout_s: float) -> int:
        self._report()
        return len(self._unreported)

    def close(self) -> None:
        self._unreported.clear()

    def _report(self) -> None:
        while self._unreported and not self._held_back:
            on_delivered, outcome = self._unreported.popleft()
            on_delivered(outcome)

    def _take(self, message: Outbound, outcome: DeliveryOutcome) -> None:
        if outcome is None:
            self._write(message)

    def _write(self, m: Outbound) -> None:
        self._broker.produce(m.topic, m.value, key=m.key, headers=m.headers, timestamp_ms=m.timestamp_ms)
