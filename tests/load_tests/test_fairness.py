"""When tickets count as served fairly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from load_tests.fairness import Outcome, Seen, Waits, waits
from load_tests.harness import LoadTestError

FAIR = Outcome(
    weight=1,
    max_records=1024,
    quiet=Waits(100, 0.05, 0.1, 0.2),
    flood=Waits(300, 4.0, 6.0, 7.0),
    bound_s=6.6,
    posts_per_s=490.0,
    tickets_per_s=5.0,
    lost=0,
    duplicates=0,
    exit_code=0,
)


def test_a_fair_run_has_no_failures() -> None:
    assert FAIR.failures() == []


@pytest.mark.parametrize(
    ("unfair", "failure"),
    [
        (replace(FAIR, flood=Waits(300, 4.0, 6.7, 7.0)), "tickets wait too long"),
        (replace(FAIR, posts_per_s=395.0), "posts stand still"),
        (replace(FAIR, lost=1), "tickets"),
        (replace(FAIR, duplicates=1), "tickets"),
        (replace(FAIR, exit_code=1), "exit code"),
    ],
)
def test_each_way_to_be_unfair_is_seen(unfair: Outcome, failure: str) -> None:
    assert unfair.failures() == [failure]


def test_waits_are_summed_up() -> None:
    some = [Seen(i, 1000.0 + i, i / 100) for i in range(1, 101)]
    assert waits(some) == Waits(100, 0.5, 0.95, 1.0)


def test_without_tickets_there_is_nothing_to_sum_up() -> None:
    with pytest.raises(LoadTestError, match="no ticket"):
        waits([])
