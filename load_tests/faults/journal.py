"""What happened in a fault run, and when: kept, and written to a file as it happens.

Enters: events. Leaves: the same, one line of JSON each. Must not know: what they mean.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson


@dataclass(frozen=True, slots=True)
class Happening:
    """`what` happened to `who`, `at_s` seconds after the run began."""

    at_s: float
    what: str
    who: str
    detail: str


class Journal:
    """Appends to a file; its clock counts from when it was made."""

    def __init__(self, path: Path) -> None:
        self.happenings: list[Happening] = []
        self._path = path
        self._began_s = time.monotonic()

    def clock(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began_s

    def note(self, what: str, who: str, detail: str = "") -> None:
        one = Happening(round(self.clock(), 3), what, who, detail)
        self.happenings.append(one)
        with self._path.open("ab") as file:
            file.write(orjson.dumps(asdict(one)) + b"\n")

    def count(self, what: str) -> int:
        return sum(one.what == what for one in self.happenings)

    def counts(self) -> dict[str, int]:
        return dict(Counter(one.what for one in self.happenings))
