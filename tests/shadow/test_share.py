"""Always the same share of the records, whoever asks and however they come."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.records import Envelope, Position
from streamer.shadow.share import Share


def envelopes(records: int, topic: str = "in", first: int = 0, partitions: int = 3) -> list[Envelope[object]]:
    return [
        Envelope(Position(topic, i % partitions, first + i // partitions), 0, None, (), None, None, None)
        for i in range(records)
    ]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_about_the_share_is_taken(share: float) -> None:
    taken = Share({"in": share}).places(envelopes(60_000))
    assert len(taken) == pytest.approx(60_000 * share, rel=0.1)


def test_all_none_and_topics_of_no_share() -> None:
    assert Share({"in": 1.0}).places(envelopes(100)) == list(range(100))
    assert Share({"in": 1.0}).places(envelopes(100, topic="other")) == []
    assert Share({"in": 0.5}).places([]) == []


@given(st.lists(st.integers(1, 200), min_size=1, max_size=6))
def test_windows_do_not_matter(sizes: list[int]) -> None:
    records = envelopes(sum(sizes))
    one, other = Share({"in": 0.3}), Share({"in": 0.3})
    apart, first = [], 0
    for size in sizes:
        apart += [first + place for place in other.places(records[first : first + size])]
        first += size
    assert apart == one.places(records)


def test_neighbours_are_taken_independently() -> None:
    """No pattern in offsets or partitions: each of ten residues has its share."""
    taken = Share({"in": 0.2}).places(envelopes(50_000, partitions=1))
    for residue in range(10):
        assert sum(place % 10 == residue for place in taken) == pytest.approx(1000, rel=0.15)


def test_a_window_costs_little() -> None:
    share, window = Share({"in": 0.05}), envelopes(1024)

    def take_s() -> float:
        begun_s = time.thread_time()
        share.places(window)
        return time.thread_time() - begun_s

    assert min(take_s() for _ in range(20)) < 1024 * 2e-6  # a fourth of that on a quiet machine
