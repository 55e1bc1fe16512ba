"""What was redriven is remembered exactly, in notes that a broker takes."""

from __future__ import annotations

import base64
import random
import zlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.dlq.ledger import STRETCH, Ledger
from streamer.errors import FatalError, UsageError
from streamer.records import Partition, Position

NOTE_BYTES = 4096  # a broker's default for offset.metadata.max.bytes


@dataclass
class Shelf:
    """Notes in memory."""

    texts: dict[tuple[str, Partition], str] = field(default_factory=dict)
    offsets: dict[tuple[str, Partition], int] = field(default_factory=dict)

    def read(self, group: str, at: Partition) -> str:
        return self.texts.get((group, at), "")

    def write(self, group: str, at: Partition, offset: int, text: str) -> None:
        assert len(text.encode()) <= NOTE_BYTES
        self.texts[group, at], self.offsets[group, at] = text, offset


def at(offset: int, partition: int = 0) -> Position:
    return Position("dead", partition, offset)


@settings(max_examples=50)
@given(st.lists(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 3 * STRETCH)), max_size=40), max_size=4))
def test_exactly_what_was_added_is_remembered(runs: list[set[tuple[int, int]]]) -> None:
    shelf = Shelf()
    added: set[Position] = set()
    for run in runs:
        ledger = Ledger(shelf)
        positions = [at(offset, partition) for partition, offset in run]
        assert {one for one in positions if ledger.has(one)} == added & set(positions)
        ledger.confirm(positions)
        for one in positions:
            ledger.add(one)
        added.update(positions)
        ledger.save()
    after = Ledger(shelf)
    near = {one._replace(offset=abs(one.offset + by)) for one in added for by in (-1, 0, 1)}
    assert {one for one in near if after.has(one)} == added & near


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 1.0])
def test_a_note_has_room_for_any_choice_of_a_stretch(share: float) -> None:
    chance = random.Random(7)
    chosen = [at(offset) for offset in range(STRETCH) if chance.random() < share]
    shelf = Shelf()
    ledger = Ledger(shelf)
    for one in chosen:
        ledger.add(one)
    ledger.save()
    assert all(map(Ledger(shelf).has, chosen))
    assert list(shelf.offsets.values()) == [chosen[-1].offset + 1]


def test_nothing_lasts_until_it_is_saved() -> None:
    shelf = Shelf()
    ledger = Ledger(shelf)
    ledger.add(at(3))
    assert ledger.has(at(3))
    assert not Ledger(shelf).has(at(3))


def test_two_at_a_time_are_found_out() -> None:
    shelf = Shelf()
    one, other = Ledger(shelf), Ledger(shelf)
    assert not one.has(at(1))
    assert not other.has(at(1))
    one.add(at(1))
    one.save()
    with pytest.raises(FatalError, match="another redrive of 'dead' is under way"):
        other.confirm([at(2)])
    other.add(at(2))
    with pytest.raises(FatalError, match="another redrive of 'dead' is under way"):
        other.save()
    one.add(at(3))  # its own notes do not stop it
    one.save()
    assert [offset for offset in range(5) if Ledger(shelf).has(at(offset))] == [1, 3]


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "1:hello",
        "1:\xff",
        "2:" + base64.b85encode(zlib.compress(b"\1")).decode(),
        "1:" + base64.b85encode(zlib.compress(b"\1" * 10_000_000)).decode(),
    ],
)
def test_a_note_of_somebody_else_is_told(text: str) -> None:
    shelf = Shelf({("streamer-redrive-dead.0", Partition("dead", 0)): text})
    with pytest.raises(UsageError, match=r"group 'streamer-redrive-dead\.0' holds no note of streamer about dead-0"):
        Ledger(shelf).has(at(0))
