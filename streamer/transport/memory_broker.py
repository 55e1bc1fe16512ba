"""A broker in plain memory: topics, committed offsets and who holds what, without waiting and without threads.

Enters: what sources, sinks and tests do. Leaves: the same course every time. Must not know: Kafka's client.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from streamer.records import Headers, Outbound, Partition, Position
from streamer.transport.base import DeliveryOutcome, Offsets, Refused

# where `fault` may raise: each step of a source or sink that can fail on a real broker
Step: TypeAlias = Literal["poll", "commit", "rewind", "open", "begin", "transaction", "transaction done", "abort"]

Change: TypeAlias = Literal["assign", "revoke", "lose"]


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a topic keeps it."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None


class Member(Protocol):
    """What the broker needs of a source."""

    @property
    def group_id(self) -> str: ...

    def schedule(self, change: Change, partitions: Iterable[Partition]) -> None:
        """Rebalance at the next poll."""


def no_fault(step: Step) -> None:
    """Every step succeeds."""


def accept(message: Outbound) -> DeliveryOutcome:
    """Every message within the limit is taken."""
    return None


class MemoryBroker:
    """Topics of `partitions` partitions each, made by the first message or by `create_topic`.

    Messages whose key, value and headers exceed `max_message_bytes` are refused. `now_ms` stamps messages without a
    timestamp. `fault` is called at each step and raises to make it fail; `deliver` tells the fate of each message,
    None to take it.

    Sources of one group share its committed offsets. A source that subscribes is given, with its first poll, the
    partitions of its topics that no other source of the group holds; after that `assign`, `revoke` and `lose` move
    them, with the next poll of the source they name.
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
        self._generations: dict[Member, int] = {}
        self._holders: dict[tuple[str, Partition], Member] = {}

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

    def assign(self, source: Member, partitions: Iterable[Partition]) -> None:
        """Give partitions to a source, as soon as their holder has let them go."""
        source.schedule("assign", partitions)

    def revoke(self, source: Member, partitions: Iterable[Partition]) -> None:
        """Take partitions back; the source may finish with them first."""
        source.schedule("revoke", partitions)

    def lose(self, source: Member, partitions: Collection[Partition]) -> None:
        """Take partitions away at once: commits of the source for them count no more, and others may have them."""
        self.rebalanced(source)
        for at in partitions:
            self.release(source, at)
        source.schedule("lose", partitions)

    def generation(self, source: Member) -> int:
        """Counts the rebalances of a source; what it started before the last one cannot be committed."""
        return self._generations.get(source, 0)

    def rebalanced(self, source: Member) -> int:
        """Count a rebalance, returns the new generation."""
        self._generations[source] = self.generation(source) + 1
        return self._generations[source]

    def hold(self, source: Member, at: Partition) -> bool:
        """Make `source` the holder of a free partition of its group; false when another holds it."""
        return self._holders.setdefault((source.group_id, at), source) is source

    def release(self, source: Member, at: Partition) -> None:
        if self.holds(source, at):
            del self._holders[source.group_id, at]

    def holds(self, source: Member, at: Partition) -> bool:
        return self._holders.get((source.group_id, at)) is source
