"""Documents -> windows, bounded by count, bytes and age, fair between streams.

Enters: Envelopes of Documents in the order they were read. Leaves: windows, each in reading order per stream.
Time is a parameter, so nothing here sleeps. Must not know: engines, Kafka clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from streamer.records import Document, Envelope, Partition


@dataclass(slots=True)
class _Queue:
    weight: int
    waiting: deque[tuple[float, int, Envelope[Document]]] = field(default_factory=deque)  # since, bytes, envelope


class Gather:
    """Holds documents until a window is full or its oldest document has waited `max_wait_s`.

    A window takes from every stream with a backlog by weight, so that a flood on one topic cannot keep another
    one waiting. `weights` is by topic.
    """

    def __init__(self, *, weights: Mapping[str, int], max_records: int, max_bytes: int, max_wait_s: float) -> None:
        self._queues = {topic: _Queue(weight) for topic, weight in weights.items()}
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._max_wait_s = max_wait_s
        self._records = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._records

    def add(self, envelope: Envelope[Document], now_s: float) -> None:
        """Queue a document that was read at `now_s`."""
        size = len(envelope.value or b"")
        self._queues[envelope.position.topic].waiting.append((now_s, size, envelope))
        self._records += 1
        self._bytes += size

    def ready_in_s(self, now_s: float) -> float | None:
        """Seconds until a window is due: 0 when it is, None when nothing waits."""
        if not self._records:
            return None
        if self._records >= self._max_records or self._bytes >= self._max_bytes:
            return 0.0
        oldest = min(queue.waiting[0][0] for queue in self._queues.values() if queue.waiting)
        return max(0.0, oldest + self._max_wait_s - now_s)

    def crowded(self) -> set[str]:
        """Topics with at least two windows' worth waiting: pause them."""
        return {topic for topic, queue in self._queues.items() if len(queue.waiting) >= 2 * self._max_records}

    def relieved(self) -> set[str]:
        """Topics with at most one window's worth waiting: resume them. The gap to `crowded` is the hysteresis."""
        return {topic for topic, queue in self._queues.items() if len(queue.waiting) <= self._max_records}

    def take(self) -> list[Envelope[Document]]:
        """Remove and return the next window; at least one document if any waits, whatever its size."""
        window: list[Envelope[Document]] = []
        room_bytes = self._max_bytes
        active = {topic: queue for topic, queue in self._queues.items() if queue.waiting}
        while active and len(window) < self._max_records:
            for topic, queue in list(active.items()):
                for _ in range(min(queue.weight, self._max_records - len(window))):
                    size = queue.waiting[0][1]
                    if window and size > room_bytes:
                        return self._taken(window)
                    window.append(queue.waiting.popleft()[2])
                    room_bytes -= size
                    if not queue.waiting:
                        del active[topic]
                        break
        return self._taken(window)

    def _taken(self, window: list[Envelope[Document]]) -> list[Envelope[Document]]:
        self._records -= len(window)
        self._bytes -= sum(len(envelope.value or b"") for envelope in window)
        return window

    def drop(self, partitions: Collection[Partition]) -> int:
        """Forget what waits of these partitions; returns how many documents that was."""
        gone = set(partitions)
        before = self._records
        for queue in self._queues.values():
            kept = deque(item for item in queue.waiting if item[2].position.at not in gone)
            self._records -= len(queue.waiting) - len(kept)
            self._bytes -= sum(item[1] for item in queue.waiting) - sum(item[1] for item in kept)
            queue.waiting = kept
        return before - self._records
