"""Where the road leaves records for the shadow, and never waits for it.

Enters: Cases, on the loop's thread. Leaves: the same, on the shadow's; or the fact that there was no room. Must not
know: models, what is done with records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Condition, Event

from streamer.shadow.event import Case


class Intake:
    """Holds at most `most_records` records of about `most_bytes` in all; takes none while it is closed, as it is at
    first. Its lock is only ever held for moments."""

    def __init__(self, *, most_records: int, most_bytes: int) -> None:
        self._most_records = most_records
        self._most_bytes = most_bytes
        self._waiting: deque[Case] = deque()
        self._bytes = 0
        self._open = False
        self._changed = Condition()

    @property
    def is_open(self) -> bool:
        return self._open

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self) -> None:
        self._open = True

    def close(self) -> list[Case]:
        """Take no more; returns what was waiting."""
        with self._changed:
            self._open = False
            left = list(self._waiting)
            self._waiting.clear()
            self._bytes = 0
        return left

    def offer(self, cases: Sequence[Case]) -> list[Case]:
        """Leave records; returns those that there is no room for."""
        refused = []
        with self._changed:
            for case in cases:
                size = case.size_bytes
                if len(self._waiting) >= self._most_records or self._bytes + size > self._most_bytes or not self._open:
                    refused.append(case)
                else:
                    self._waiting.append(case)
                    self._bytes += size
            self._changed.notify()
        return refused

    def take(self, most: int, timeout_s: float) -> list[Case]:
        """Up to `most` of the oldest, waiting at most `timeout_s` for the first."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout_s)
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._bytes -= sum(case.size_bytes for case in taken)
        return taken


class Yielding:
    """Whether the road's engine has nothing under way, so that the shadow may have the device."""

    def __init__(self) -> None:
        self._under_way = 0
        self._free = Event()
        self._free.set()

    def submitted(self) -> None:
        self._under_way += 1
        self._free.clear()

    def returned(self) -> None:
        self._under_way -= 1
        if self._under_way <= 0:
            self._free.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait at most so long for the device; whether it is free."""
        return self._free.wait(timeout_s)
