"""Which of several corrections counts, and what is kept of an earlier run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamer.feedback.corrections import Corrected
from streamer.feedback.store import Counts, Problem, Row, Store
from streamer.records import Partition, Position

RECORD, OTHER = Position("in", 0, 7), Position("in", 1, 3)
GOOD, BAD = {"mood": ["good"]}, {"mood": ["bad"]}


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as opened:
        yield opened


def correct(store: Store, record: Position, labels: dict[str, list[str]], at: tuple[int, int], ms: int | None) -> None:
    store.correct(Corrected(record, labels), by=Position("corrections", *at), at_ms=ms)


def labels_of(store: Store) -> list[tuple[Position, dict[str, list[str]]]]:
    store.found([(RECORD, "text"), (OTHER, "other")])
    return [(row.record, row.labels) for row in store.rows()]


def test_within_a_partition_the_later_offset_counts_whatever_its_time(store: Store) -> None:
    correct(store, RECORD, GOOD, (0, 1), 2000)
    correct(store, RECORD, BAD, (0, 2), 1000)
    assert labels_of(store) == [(RECORD, BAD)]


@pytest.mark.parametrize(("later_ms", "expected"), [(2001, BAD), (1999, GOOD), (2000, BAD), (None, GOOD)])
def test_between_partitions_the_later_time_counts(
    store: Store, later_ms: int | None, expected: dict[str, list[str]]
) -> None:
    correct(store, RECORD, GOOD, (0, 9), 2000)
    correct(store, RECORD, BAD, (1, 1), later_ms)
    assert labels_of(store) == [(RECORD, expected)]


def test_what_was_taken_back_is_no_row_until_it_is_corrected_again(store: Store) -> None:
    correct(store, RECORD, GOOD, (0, 1), 1)
    correct(store, RECORD, {}, (0, 2), 2)
    assert labels_of(store) == []
    assert store.partitions() == []
    assert store.counts() == Counts(records=1, taken_back=1, joined=0, kept=0, corrected=1)
    correct(store, RECORD, BAD, (0, 3), 3)
    assert labels_of(store) == [(RECORD, BAD)]


def test_a_row_of_an_earlier_run_gives_way_to_any_correction_and_lends_its_text(store: Store) -> None:
    store.add_earlier(Row(RECORD, "as it was", GOOD, 9000))
    store.add_earlier(Row(OTHER, "as it was", GOOD, 9000))
    correct(store, RECORD, BAD, (0, 1), 1)
    assert store.has_earlier(RECORD)
    assert [(row.text, row.labels, row.at_ms) for row in store.rows()] == [
        ("as it was", BAD, 1),
        ("as it was", GOOD, 9000),
    ]
    store.found([(RECORD, "as it is")])
    assert [row.text for row in store.rows()] == ["as it is", "as it was"]
    assert store.counts() == Counts(records=2, taken_back=0, joined=1, kept=1, corrected=1)
    correct(store, RECORD, {}, (0, 2), 2)
    assert [row.record for row in store.rows()] == [OTHER]


def test_records_are_wanted_in_their_order_and_in_parts(store: Store) -> None:
    for offset in (5, 1, 9, 3):
        correct(store, Position("in", 0, offset), GOOD, (0, offset), None)
    correct(store, OTHER, GOOD, (0, 10), None)
    assert store.partitions() == [Partition("in", 0), Partition("in", 1)]
    assert store.wanted(Partition("in", 0), -1, 2) == [1, 3]
    assert store.wanted(Partition("in", 0), 3, 2) == [5, 9]
    assert store.wanted(Partition("in", 0), 9, 2) == []


def test_problems_are_told_in_order_and_counted(store: Store) -> None:
    problems = [Problem("c-0-1", "x", "malformed", "why"), Problem("", "in-0-7", "expired", "gone")]
    for one in [*problems, problems[0]]:
        store.problem(one)
    assert list(store.problems()) == [*problems, problems[0]]
    assert store.problem_codes() == {"malformed": 2, "expired": 1}
