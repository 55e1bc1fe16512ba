"""Records -> windows, bounded by count, bytes and age, fair between streams.

Enters: Envelopes of Documents, and of Rejects, in the order they were read. Leaves: windows, each in reading order
per stream: a Reject takes its turn, so that it overtakes nothing.
Time is a parameter, so nothing here sleeps. Must not know: engines, Kafka clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from streamer.records import Document, Envelope, Partition, Reject

Record: TypeAlias = Envelope[Document | Reject]

FEWEST_RECORDS = 8


@dataclass(slots=True)
class _Queue:
    weight: int
    waiting: deque[tuple[float, int, Record]] = field(default_factory=deque)  # since, bytes, envelope
    bytes: int = 0


class Gather:
    """Holds records until a window is full or its oldest record has waited `max_wait_s`.

    A window takes from every stream with a backlog by weight, so that a flood on one topic cannot keep another
    one waiting. `weights` is by topic.
    """

    def __init__(self, *, weights: Mapping[str, int], max_records: int, max_bytes: int, max_wait_s: float) -> None:
        self._queues = {topic: _Queue(weight) for topic, weight in weights.items()}
        self._max_records = self._window_records = max_records
        self._max_bytes = max_bytes
        self._max_wait_s = max_wait_s
        self._records = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._records

    def add(self, envelope: Record, now_s: float) -> None:
        """Queue a record that was read at `now_s`."""
        size = 0 if envelope.value is None else len(envelope.value)
        queue = self._queues[envelope.position.topic]
        queue.waiting.append((now_s, size, envelope))
        queue.bytes += size
        self._records += 1
        self._bytes += size

    def resize(self, records: int) -> None:
        """Let windows hold so many records, at least FEWEST_RECORDS and at most `max_records`. `crowded` and `relieved`
        go by `max_records` all the same."""
        self._window_records = min(max(records, FEWEST_RECORDS), self._max_records)

    def ready_in_s(self, now_s: float) -> float | None:
        """Seconds until a window is due: 0 when it is, None when nothing waits."""
        if not self._records:
            return None
        if self._records >= self._window_records or self._bytes >= self._max_bytes:
            return 0.0
        oldest = min(queue.waiting[0][0] for queue in self._queues.values() if queue.waiting)
        return max(0.0, oldest + self._max_wait_s - now_s)

    def crowded(self) -> set[str]:
        """Topics with at least two windows' worth waiting, in records or bytes: pause them."""
        return {
            topic
            for topic, queue in self._queues.items()
            if len(queue.waiting) >= 2 * self._max_records or queue.bytes >= 2 * self._max_bytes
        }

    def relieved(self) -> set[str]:
        """Topics with at most one window's worth waiting: resume them. The gap to `crowded` is the hysteresis."""
        return {
            topic
            for topic, queue in self._queues.items()
            if len(queue.waiting) <= self._max_records and queue.bytes <= self._max_bytes
        }

    def take(self) -> list[Record]:
        """Remove and return the next window; at least one record if any waits, whatever its size."""
        window: list[Record] = []
        taken_bytes = 0
        active = {topic: queue for topic, queue in self._queues.items() if queue.waiting}
        while active and len(window) < self._window_records:
            for topic, queue in list(active.items()):
                share = queue.weight if len(active) > 1 else self._window_records
                for _ in range(min(share, self._window_records - len(window))):
                    _, size, envelope = queue.waiting[0]
                    if window and taken_bytes + size > self._max_bytes:
                        return self._taken(window, taken_bytes)
                    queue.waiting.popleft()
                    window.append(envelope)
                    queue.bytes -= size
                    taken_bytes += size
                    if not queue.waiting:
                        del active[topic]
                        break
        return self._taken(window, taken_bytes)

    def _taken(self, window: list[Record], taken_bytes: int) -> list[Record]:
        self._records -= len(window)
        self._bytes -= taken_bytes
        return window

    def drop(self, partitions: Collection[Partition]) -> int:
        """Forget what waits of these partitions; returns how many records that was."""
        gone = set(partitions)
        before = self._records
        for queue in self._queues.values():
            kept = deque(item for item in queue.waiting if item[2].position.at not in gone)
            kept_bytes = sum(item[1] for item in kept)
            self._records -= len(queue.waiting) - len(kept)
            self._bytes -= queue.bytes - kept_bytes
            queue.waiting, queue.bytes = kept, kept_bytes
        return before - self._records

    def clear(self) -> None:
        """Forget everything that waits."""
        for queue in self._queues.values():
            queue.waiting.clear()
            queue.bytes = 0
        self._records = self._bytes = 0
