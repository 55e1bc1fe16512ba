"""Windows: bounded, ordered, fair."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.gather import Gather
from streamer.records import Document, Envelope, Partition, Position

LABELS = LabelSet("l", (Facet("f", Kind.SINGLE, (Label("a"), Label("b"))),))


def document(topic: str, offset: int, size: int = 1, partition: int = 0) -> Envelope[Document]:
    text = "x" * size
    return Envelope(Position(topic, partition, offset), 1, None, (), None, text.encode(), Document(text, LABELS))


def gather(max_records: int = 4, max_bytes: int = 1000, max_wait_s: float = 0.02, **weights: int) -> Gather:
    return Gather(weights=weights or {"a": 1}, max_records=max_records, max_bytes=max_bytes, max_wait_s=max_wait_s)


def test_due_when_full_or_old() -> None:
    one = gather(max_records=2)
    assert one.ready_in_s(0.0) is None
    one.add(document("a", 0), 10.0)
    assert one.ready_in_s(10.005) == pytest.approx(0.015)
    assert one.ready_in_s(10.03) == 0.0
    one.add(document("a", 1), 10.0)
    assert one.ready_in_s(10.0) == 0.0


def test_due_when_heavy_and_a_giant_goes_alone() -> None:
    one = gather(max_bytes=10)
    one.add(document("a", 0, size=50), 0.0)
    one.add(document("a", 1, size=1), 0.0)
    assert one.ready_in_s(0.0) == 0.0
    assert [e.position.offset for e in one.take()] == [0]
    assert [e.position.offset for e in one.take()] == [1]
    assert len(one) == 0


def test_a_flood_does_not_starve_the_other_stream() -> None:
    one = gather(max_records=10, posts=1, tickets=3)
    for offset in range(100):
        one.add(document("posts", offset), 0.0)
    for offset in range(20):
        one.add(document("tickets", offset), 0.0)
    shares = Counter(e.position.topic for e in one.take())
    assert shares["tickets"] >= 6
    assert shares["posts"] >= 2


def test_crowded_and_relieved_leave_a_gap() -> None:
    one = gather(max_records=2, a=1, b=1)
    for offset in range(4):
        one.add(document("a", offset), 0.0)
    assert one.crowded() == {"a"}
    one.take()
    assert one.crowded() == set()
    assert one.relieved() == {"a", "b"}


def test_drop_forgets_partitions() -> None:
    one = gather()
    one.add(document("a", 0, partition=0), 0.0)
    one.add(document("a", 0, partition=1), 0.0)
    assert one.drop([Partition("a", 0)]) == 1
    assert [e.position.partition for e in one.take()] == [1]
    assert one.ready_in_s(99.0) is None


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 40)), max_size=60),
    st.integers(1, 9),
    st.integers(1, 100),
    st.integers(1, 5),
)
def test_laws(items: list[tuple[str, int]], max_records: int, max_bytes: int, weight: int) -> None:
    """Every document leaves once, in order per stream, in windows within the bounds unless one document is over."""
    one = gather(max_records=max_records, max_bytes=max_bytes, a=weight, b=1)
    added = [document(topic, offset, size) for offset, (topic, size) in enumerate(items)]
    for envelope in added:
        one.add(envelope, 0.0)
    left = []
    while len(one):
        window = one.take()
        assert 1 <= len(window) <= max_records
        assert len(window) == 1 or sum(len(e.value or b"") for e in window) <= max_bytes
        left += window
    for topic in "ab":
        assert [e for e in left if e.position.topic == topic] == [e for e in added if e.position.topic == topic]
    assert len(left) == len(added)


def test_windows_can_be_made_smaller_and_never_larger_than_allowed() -> None:
    one = gather(max_records=100, max_bytes=10**6, max_wait_s=60.0)
    for offset in range(150):
        one.add(document("a", offset), 0.0)
    one.resize(30)
    assert one.ready_in_s(0.0) == 0.0
    assert len(one.take()) == 30
    one.resize(0)
    assert len(one.take()) == 8
    one.resize(10**9)
    assert len(one.take()) == 100
    assert one.crowded() == set()
