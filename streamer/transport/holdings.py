"""Which partitions a member of a group holds, under which epoch, and where their reading began.

Enters: assignments and rewinds. Leaves: the epoch that marks each record. Must not know: brokers, clients, records.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from streamer.records import Partition


@dataclass(slots=True)
class Held:
    """A partition that is ours.

    `origin`: offset where this assignment began to read. `start`: the next offset as long as nothing was read since
    the assignment or the last rewind. Both are None while unknown. `written_ms`: timestamp of the last record read.
    """

    epoch: int
    origin: int | None
    start: int | None
    written_ms: int | None = None


class Holdings:
    """Partitions held. Each assignment and each rewind of a partition gives it an epoch it never had before."""

    def __init__(self) -> None:
        self._held: dict[Partition, Held] = {}
        self._epochs: dict[Partition, int] = {}

    def take(self, at: Partition, origin: int | None) -> None:
        """Assigned; reading begins at `origin`."""
        self._held[at] = Held(self._next_epoch(at), origin, origin)

    def rewind(self, at: Partition, to: int | None) -> None:
        """Reading goes on at `to`, under a new epoch."""
        held = self._held[at]
        held.epoch = self._next_epoch(at)
        held.start = to

    def drop(self, partitions: Iterable[Partition]) -> None:
        for at in partitions:
            self._held.pop(at, None)

    def get(self, at: Partition) -> Held | None:
        return self._held.get(at)

    def of(self, topics: Collection[str]) -> list[Partition]:
        return [at for at in self._held if at.topic in topics]

    def __getitem__(self, at: Partition) -> Held:
        return self._held[at]

    def __contains__(self, at: object) -> bool:
        return at in self._held

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def _next_epoch(self, at: Partition) -> int:
        self._epochs[at] = self._epochs.get(at, 0) + 1
        return self._epochs[at]
