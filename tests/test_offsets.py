"""The committed offset never passes unfinished work."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.offsets import Offsets
from streamer.records import Partition, Position

P0 = Partition("t", 0)


def at(offset: int, partition: int = 0) -> Position:
    return Position("t", partition, offset)


def test_contiguous_only() -> None:
    offsets = Offsets()
    for offset in (5, 6, 9):  # 7 and 8 were compacted away
        offsets.start(at(offset), 1)
    offsets.finish(at(6), 1)
    assert offsets.committable() == {}
    offsets.finish(at(5), 1)
    assert offsets.committable() == {P0: 7}
    offsets.committed({P0: 7})
    assert offsets.committable() == {}
    offsets.finish(at(9), 1)
    assert offsets.committable() == {P0: 10}


def test_uncommitted_counts_what_a_crash_would_repeat() -> None:
    offsets = Offsets()
    for offset in range(4):
        offsets.start(at(offset), 1)
    offsets.finish(at(0), 1)
    offsets.finish(at(2), 1)
    assert offsets.uncommitted == 4
    offsets.committed(offsets.committable())
    assert offsets.uncommitted == 3  # 2 is finished, but behind 1
    offsets.forget([P0])
    assert offsets.uncommitted == 0


def test_an_old_epoch_moves_nothing() -> None:
    offsets = Offsets()
    offsets.start(at(0), 1)
    offsets.start(at(0), 2)  # rewound: read again
    offsets.finish(at(0), 1)
    assert offsets.committable() == {}
    assert not offsets.holds(at(0), 1)
    assert offsets.holds(at(0), 2)
    offsets.finish(at(0), 2)
    assert offsets.committable() == {P0: 1}


def test_a_forgotten_partition_moves_nothing() -> None:
    offsets = Offsets()
    offsets.start(at(0), 1)
    offsets.forget([P0])
    offsets.finish(at(0), 1)
    assert offsets.committable() == {}
    assert not offsets.holds(at(0), 1)


@given(st.data())
def test_never_past_unfinished_work(data: st.DataObject) -> None:
    """Model: a plain set of unfinished offsets, under any order of finishing and committing."""
    offsets = Offsets()
    unfinished: dict[int, set[int]] = {0: set(), 1: set()}
    started: dict[int, list[int]] = {0: [], 1: []}
    committed_at_start = 0
    for _ in range(data.draw(st.integers(1, 60))):
        partition = data.draw(st.integers(0, 1))
        match data.draw(st.sampled_from(["start", "finish", "commit"])):
            case "start":
                offset = (started[partition] or [-1])[-1] + data.draw(st.integers(1, 3))
                started[partition].append(offset)
                unfinished[partition].add(offset)
                offsets.start(at(offset, partition), 1)
                committed_at_start += 1
            case "finish" if unfinished[partition]:
                offset = data.draw(st.sampled_from(sorted(unfinished[partition])))
                unfinished[partition].discard(offset)
                offsets.finish(at(offset, partition), 1)
            case "commit":
                offsets.committed(offsets.committable())
        for where, next_offset in offsets.committable().items():
            left = unfinished[where.partition]
            assert not left or next_offset <= min(left)
            passed = [offset for offset in started[where.partition] if offset < next_offset]
            assert passed
            assert next_offset == passed[-1] + 1
        assert offsets.uncommitted >= sum(len(left) for left in unfinished.values())
