"""Epochs of partitions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.records import Partition
from streamer.transport.holdings import Holdings

A, B = Partition("t", 0), Partition("u", 0)


@given(st.lists(st.tuples(st.sampled_from([A, B]), st.sampled_from(["take", "rewind", "drop"]))))
def test_no_epoch_of_a_partition_comes_twice(changes: list[tuple[Partition, str]]) -> None:
    held = Holdings()
    last = {A: 0, B: 0}
    for at, change in changes:
        if change == "drop":
            held.drop([at])
            assert at not in held
        elif change == "take":
            held.take(at, None)
        elif at in held:
            held.rewind(at, 5)
        if change != "drop" and at in held:
            assert held[at].epoch > last[at]
            last[at] = held[at].epoch


def test_a_rewind_keeps_where_reading_began() -> None:
    held = Holdings()
    held.take(A, 7)
    held.take(B, None)
    held.rewind(A, 3)
    assert (held[A].origin, held[A].start) == (7, 3)
    assert held.of(["t"]) == [A]
    assert held.get(Partition("t", 9)) is None
    assert (set(held), len(held)) == ({A, B}, 2)
