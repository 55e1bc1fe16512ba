"""What is known of a run, and what is said about it: the vocabulary of the checker.

Enters: plain values. Leaves: frozen dataclasses. Must not know: how any of it was read or judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from streamer.records import Partition, Position

Delivery: TypeAlias = Literal["exactly_once", "at_least_once"]


@dataclass(frozen=True, slots=True)
class Input:
    """A record sent. `number` is its own number, which its event repeats; `bad` ones belong to the dead letters."""

    key: bytes | None
    number: int
    bad: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """An event or dead letter that was read. `of`: the input record it names; `at`: where it stands itself.

    `writer` is the process that wrote it; `number` and `version` are None where the message does not tell (dead
    letters)."""

    of: Position
    at: Position
    dead_letter: bool
    number: int | None
    writer: str
    version: str | None
    arrival_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The group's committed offsets (next to read), and then, asked afterwards, the next offset of every partition
    that outputs and dead letters stand in, whether in a finished transaction or not."""

    at_s: float
    committed: Mapping[Partition, int]
    ends: Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process at one moment."""

    writer: str
    at_s: float
    rss_mb: float


@dataclass(frozen=True, slots=True)
class Stop:
    """A process that was sent SIGTERM: how it ended (None: it had to be killed), and after how long. `disturbed`: the
    cluster was not whole then, or shortly before, so that a commit may not have been possible."""

    writer: str
    exit_code: int | None
    seconds: float
    disturbed: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a run. `seen`: read when all was over; `watched`: read while it went on, in the order of
    arrival; `final`: committed in the end; `versions`: label-set version that each writer was given; `disruptions`:
    how often each writer was killed, paused, cut off or ended by itself."""

    inputs: Mapping[Position, Input]
    seen: Sequence[Seen]
    watched: Sequence[Seen]
    samples: Sequence[Sample]
    final: Mapping[Partition, int]
    versions: Mapping[str, str]
    disruptions: Mapping[str, int]
    memory: Sequence[Memory]
    stops: Sequence[Stop]


@dataclass(frozen=True, slots=True)
class Rules:
    """What was promised."""

    delivery: Delivery
    max_uncommitted_records: int
    memory_mb: float
    grace_s: float


@dataclass(frozen=True, slots=True)
class Finding:
    """An invariant (its number on the architecture page), how many cases were looked at, and how many broke it."""

    invariant: int
    name: str
    checked: int
    violations: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`duplicates` and `lost` count input records beyond, or without, their one event or dead letter;
    `most_per_disruption`: the most duplicates laid to one process, divided by how often it was disturbed."""

    delivery: str
    inputs: int
    outputs: int
    dead_letters: int
    lost: int
    duplicates: int
    most_per_disruption: int
    samples: int
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        return not any(finding.violations for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        return {"holds": self.holds, **asdict(self)}
