"""Which dead letters were redriven: remembered at the broker, so that a second redrive does not send them again.

Enters: positions. Leaves: notes, one bit for each dead letter, in groups named `streamer-redrive-TOPIC.N` (N counts
stretches of 16,384 offsets, as a note has room for no more). Must not know: what dead letters hold, Kafka clients.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from streamer.errors import FatalError, UsageError
from streamer.records import Partition, Position

STRETCH = 16_384  # offsets; as bits 2 KiB, as text at most 2.6 KB, where brokers take 4
_FORMAT = "1:"


class Notes(Protocol):
    """Short texts that outlive this process."""

    def read(self, group: str, at: Partition) -> str: ...

    def write(self, group: str, at: Partition, offset: int, text: str) -> None: ...


class _Place(NamedTuple):
    """Where a stretch of offsets is noted."""

    at: Partition
    stretch: int

    @property
    def group(self) -> str:
        return f"streamer-redrive-{self.at.topic}.{self.stretch}"


class Ledger:
    """Reads a stretch when it is first asked for it, and writes when told to.

    Two that write at the same time would undo each other's notes. `confirm` and `save` find out and raise FatalError.
    """

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._bits: dict[_Place, bytearray] = {}
        self._read: dict[_Place, str] = {}
        self._changed: set[_Place] = set()

    def has(self, position: Position) -> bool:
        """Raises UsageError where the note is not one of ours."""
        byte, bit = divmod(position.offset % STRETCH, 8)
        return bool(self._stretch(_place(position))[byte] >> bit & 1)

    def add(self, position: Position) -> None:
        """Remember it; `save` makes that last."""
        byte, bit = divmod(position.offset % STRETCH, 8)
        place = _place(position)
        self._stretch(place)[byte] |= 1 << bit
        self._changed.add(place)

    def confirm(self, positions: Iterable[Position]) -> None:
        """Look whether the notes about these are still as they were read."""
        for place in {_place(position) for position in positions}:
            self._stretch(place)
            self._confirm(place)

    def save(self) -> None:
        """Write what was added."""
        for place in sorted(self._changed):
            self._confirm(place)
            bits = self._stretch(place)
            text = _FORMAT + base64.b85encode(zlib.compress(bytes(bits).rstrip(b"\0"), 9)).decode()
            self._notes.write(place.group, place.at, place.stretch * STRETCH + _length(bits), text)
            self._read[place] = text
            self._changed.discard(place)

    def _confirm(self, place: _Place) -> None:
        if self._notes.read(place.group, place.at) != self._read[place]:
            raise FatalError(f"another redrive of '{place.at.topic}' is under way: run one at a time")

    def _stretch(self, place: _Place) -> bytearray:
        if place not in self._bits:
            text = self._notes.read(place.group, place.at)
            self._bits[place] = _decode(text, place)
            self._read[place] = text
        return self._bits[place]


def _place(position: Position) -> _Place:
    return _Place(position.at, position.offset // STRETCH)


def _length(bits: bytearray) -> int:
    """One more than the last offset remembered, counted from the stretch's first."""
    return int.from_bytes(bits, "little").bit_length()


def _decode(text: str, place: _Place) -> bytearray:
    if not text:
        return bytearray(STRETCH // 8)
    try:
        if not text.startswith(_FORMAT):
            raise ValueError
        packed = base64.b85decode(text.removeprefix(_FORMAT))
        bits = zlib.decompressobj().decompress(packed, STRETCH // 8 + 1)
        if len(bits) > STRETCH // 8:
            raise ValueError
    except (ValueError, binascii.Error, zlib.error):
        raise UsageError(
            f"group '{place.group}' holds no note of streamer about {place.at.topic}-{place.at.partition}: "
            "delete that group (kafka-consumer-groups.sh --delete)"
        ) from None
    return bytearray(bits.ljust(STRETCH // 8, b"\0"))
