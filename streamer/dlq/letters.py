"""A dead letter as people ask about it, and which of them are meant.

Enters: records of a dead-letter topic. Leaves: DeadLetters, chosen by code, source topic or position.
Must not know: Kafka clients, terminals.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamer.encode import DEAD_LETTER_HEADER
from streamer.errors import UsageError
from streamer.records import Envelope, Headers, Position

REDRIVE_OF, REDRIVE_COUNT = "redrive-of", "redrive-count"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record of a dead-letter topic, taken apart.

    `at` is its own position, `source` that of the record it repeats. `code` is empty and `source` None where the
    headers do not say so: then it is no dead letter of ours. `headers` are the input's own. `cuts` says what of the
    input is not repeated as a whole. `redrives` counts how often the record was sent again before it ended here.
    """

    at: Position
    written_ms: int | None
    code: str
    message: str
    source: Position | None
    source_ms: int | None
    label_set: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    cuts: tuple[str, ...]
    redrives: int


def open_letter(record: Envelope[None]) -> DeadLetter:
    """Take a record apart; nothing that it holds makes this fail."""
    told: dict[str, str] = {}
    own = []
    for name, content in record.headers:
        if name.startswith(DEAD_LETTER_HEADER):
            told[name.removeprefix(DEAD_LETTER_HEADER)] = (content or b"").decode("utf-8", "replace")
        else:
            own.append((name, content))
    partition, offset = _number(told.get("partition")), _number(told.get("offset"))
    topic = told.get("topic")
    return DeadLetter(
        at=record.position,
        written_ms=record.timestamp_ms,
        code=told.get("code", ""),
        message=told.get("message", ""),
        source=Position(topic, partition, offset) if topic and partition is not None and offset is not None else None,
        source_ms=_number(told.get("timestamp-ms")),
        label_set=told.get("label-set", ""),
        key=record.key,
        value=record.value,
        headers=tuple(own),
        cuts=_cuts(told, len(record.key or b""), len(record.value or b"")),
        redrives=_redrives(tuple(own)),
    )


def _cuts(told: dict[str, str], key_bytes: int, value_bytes: int) -> tuple[str, ...]:
    cuts = [
        f"the {what} is cut to {here} bytes of {told[f'{what}-bytes']}; SHA-256 of the whole: "
        f"{told.get(f'{what}-sha256', 'unknown')}"
        for what, here in (("key", key_bytes), ("value", value_bytes))
        if f"{what}-bytes" in told
    ]
    if "headers-left-out" in told:
        cuts.append(f"{told['headers-left-out']} headers are left out")
    return tuple(cuts)


def _redrives(headers: Headers) -> int:
    """The count as the headers tell it, and no less than the positions that they name."""
    named = sum(name == REDRIVE_OF for name, _ in headers)
    counts = [
        _number((content or b"").decode("utf-8", "replace")) for name, content in headers if name == REDRIVE_COUNT
    ]
    return max([named, *(count for count in counts if count is not None)])


def _number(text: str | None) -> int | None:
    """Digits as a number of 64 bits; None for anything else."""
    return int(text) if text is not None and re.fullmatch("[0-9]{1,18}", text) else None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant; an empty set asks for nothing. `positions` are their own or their sources'."""

    codes: frozenset[str]
    source_topics: frozenset[str]
    positions: frozenset[Position]

    def takes(self, letter: DeadLetter) -> bool:
        if self.codes and letter.code not in self.codes:
            return False
        if self.source_topics and (letter.source is None or letter.source.topic not in self.source_topics):
            return False
        return not self.positions or letter.at in self.positions or letter.source in self.positions


def parse_position(text: str) -> Position:
    """`topic-partition-offset`, as `id` of an event and the first column of `list` have it."""
    found = re.fullmatch(r"([A-Za-z0-9._-]{1,249})-([0-9]{1,9})-([0-9]{1,18})", text)
    if found is None:
        raise UsageError(f"{text[:80]!r} is no position; write topic-partition-offset, e.g. tickets.dead-0-42")
    return Position(found[1], int(found[2]), int(found[3]))
