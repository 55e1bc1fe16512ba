"""Which offsets may be committed: the highest contiguous finished position of every partition.

Enters: positions as they are read and as they finish, in any order. Leaves: next offsets to commit. Offsets need
not be dense: compaction and transaction markers leave gaps, so contiguity means "in the order read".
Must not know: what finishing means, Kafka clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from streamer.records import Partition, Position


@dataclass(slots=True)
class _Ledger:
    epoch: int
    order: deque[int] = field(default_factory=deque)  # offsets read and not yet passed, in reading order
    finished: set[int] = field(default_factory=set)  # of those, the ones done
    next_offset: int | None = None  # nothing below is unfinished
    passed: int = 0  # records below `next_offset`
    handed: deque[tuple[int, int]] = field(default_factory=deque)  # `next_offset` and `passed` of commits under way
    committed: int | None = None
    covered: int = 0  # of the records passed, those below `committed`


class Offsets:
    """Bookkeeping of unfinished work for every partition held.

    Invariant: `committable()` never passes a position that was started and not finished.
    """

    def __init__(self) -> None:
        # by Partition; a Position's first two fields find it too, which saves making one for every record
        self._ledgers: dict[tuple[str, int], _Ledger] = {}
        self._uncommitted = 0

    @property
    def uncommitted(self) -> int:
        """Records read and not yet covered by an answered commit: what a crash now would repeat."""
        return self._uncommitted

    def start(self, position: Position, epoch: int) -> None:
        """A record was read. A newer epoch forgets what its partition had under way."""
        ledger = self._ledgers.get(position[:2])
        if ledger is None or ledger.epoch != epoch:
            self.forget((position.at,))
            ledger = self._ledgers[position.at] = _Ledger(epoch)
        ledger.order.append(position.offset)
        self._uncommitted += 1

    def epochs(self) -> dict[tuple[str, int], int]:
        """Epochs whose work still counts, by topic and partition."""
        return {at: ledger.epoch for at, ledger in self._ledgers.items()}

    def holds(self, position: Position, epoch: int) -> bool:
        """Whether work on this record still counts: its partition is held, in the same epoch."""
        ledger = self._ledgers.get(position[:2])
        return ledger is not None and ledger.epoch == epoch

    def finish(self, position: Position, epoch: int) -> None:
        """A record ended in an output, a dead letter, or a counted drop."""
        ledger = self._ledgers.get(position[:2])
        if ledger is None or ledger.epoch != epoch:
            return
        order, finished, offset = ledger.order, ledger.finished, position[2]
        if not order or order[0] != offset:
            finished.add(offset)
            return
        order.popleft()
        passed = 1
        while finished and order and order[0] in finished:
            offset = order.popleft()
            finished.discard(offset)
            passed += 1
        ledger.passed += passed
        ledger.next_offset = offset + 1

    def committable(self) -> dict[Partition, int]:
        """Next offsets that no answered commit covers, to be handed to a commit now."""
        offsets: dict[Partition, int] = {}
        for at, ledger in self._ledgers.items():
            if ledger.next_offset is not None and ledger.next_offset != ledger.committed:
                offsets[Partition(*at)] = ledger.next_offset
                if not ledger.handed or ledger.handed[-1][0] != ledger.next_offset:
                    ledger.handed.append((ledger.next_offset, ledger.passed))
        return offsets

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """The broker has these offsets; those that `committable` did not give, or gave before a newer epoch, count
        for nothing."""
        for partition, offset in offsets.items():
            ledger = self._ledgers.get(partition)
            while ledger is not None and ledger.handed and ledger.handed[0][0] <= offset:
                ledger.committed, covered = ledger.handed.popleft()
                self._uncommitted -= covered - ledger.covered
                ledger.covered = covered

    def forget(self, partitions: Collection[Partition]) -> None:
        """Partitions are no longer held: their unfinished work no longer counts."""
        for partition in partitions:
            ledger = self._ledgers.pop(partition, None)
            if ledger is not None:
                self._uncommitted -= ledger.passed - ledger.covered + len(ledger.order)

    def forget_all(self) -> None:
        """Everything is to be read again."""
        self._ledgers.clear()
        self._uncommitted = 0
