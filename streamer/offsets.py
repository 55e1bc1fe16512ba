"""Which offsets may be committed: the highest contiguous finished position of every partition.

Enters: positions as they are read and as they finish, in any order. Leaves: next offsets to commit. Offsets need
not be dense: compaction and transaction markers leave gaps, so contiguity means "in the order read".
Must not know: what finishing means, Kafka clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from streamer.records import Partition, Position


@dataclass(slots=True)
class _Ledger:
    epoch: int
    order: deque[int] = field(default_factory=deque)  # offsets read and not yet passed, in reading order
    finished: set[int] = field(default_factory=set)  # of those, the ones done
    next_offset: int | None = None  # nothing below is unfinished
    committed: int | None = None
    uncommitted: int = 0  # read since the last commit, or before it and unfinished then


class Offsets:
    """Bookkeeping of unfinished work for every partition held.

    Invariant: `committable()` never passes a position that was started and not finished.
    """

    def __init__(self) -> None:
        self._ledgers: dict[Partition, _Ledger] = {}
        self._uncommitted = 0

    @property
    def uncommitted(self) -> int:
        """Records read and not yet covered by a commit: what a crash now would repeat."""
        return self._uncommitted

    def start(self, position: Position, epoch: int) -> None:
        """A record was read. A newer epoch forgets what its partition had under way."""
        ledger = self._ledgers.get(position.at)
        if ledger is None or ledger.epoch != epoch:
            self.forget((position.at,))
            ledger = self._ledgers[position.at] = _Ledger(epoch)
        ledger.order.append(position.offset)
        ledger.uncommitted += 1
        self._uncommitted += 1

    def holds(self, position: Position, epoch: int) -> bool:
        """Whether work on this record still counts: its partition is held, in the same epoch."""
        ledger = self._ledgers.get(position.at)
        return ledger is not None and ledger.epoch == epoch

    def finish(self, position: Position, epoch: int) -> None:
        """A record ended in an acknowledged output, an acknowledged dead letter, or a counted drop."""
        ledger = self._ledgers.get(position.at)
        if ledger is None or ledger.epoch != epoch:
            return
        ledger.finished.add(position.offset)
        while ledger.order and ledger.order[0] in ledger.finished:
            offset = ledger.order.popleft()
            ledger.finished.discard(offset)
            ledger.next_offset = offset + 1

    def committable(self) -> dict[Partition, int]:
        """Next offsets that have moved since the last `committed`."""
        return {
            partition: ledger.next_offset
            for partition, ledger in self._ledgers.items()
            if ledger.next_offset is not None and ledger.next_offset != ledger.committed
        }

    def passed(self) -> dict[Partition, int]:
        """Next offsets of all partitions, also those handed to a commit before: such a commit may have failed."""
        return {at: ledger.next_offset for at, ledger in self._ledgers.items() if ledger.next_offset is not None}

    def committed(self, offsets: dict[Partition, int]) -> None:
        """These offsets were handed to a commit."""
        for partition, offset in offsets.items():
            ledger = self._ledgers.get(partition)
            if ledger is not None:
                ledger.committed = offset
                self._uncommitted += len(ledger.order) - ledger.uncommitted
                ledger.uncommitted = len(ledger.order)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Partitions are no longer held: their unfinished work no longer counts."""
        for partition in partitions:
            ledger = self._ledgers.pop(partition, None)
            if ledger is not None:
                self._uncommitted -= ledger.uncommitted
