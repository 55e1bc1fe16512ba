"""The longest pauses of the loop: kept for a window or two, and seen while they last."""

from __future__ import annotations

from typing import Protocol

import pytest

from streamer.telemetry.pauses import Pauses


class Clock(Protocol):
    def __call__(self) -> float: ...

    def advance(self, seconds: float) -> None: ...


@pytest.fixture
def pauses(clock: Clock) -> Pauses:
    return Pauses(clock=clock, window_s=60.0)


def test_nothing_before_the_first_beat(pauses: Pauses) -> None:
    assert pauses.last is None
    assert pauses.longest_s() == {}


def test_a_pause_belongs_to_what_the_loop_was_about_to_do(pauses: Pauses, clock: Clock) -> None:
    for stage, seconds in (("poll", 0.5), ("commit", 0.25), ("poll", 0.125), ("wait", 0.0)):
        pauses.beat(stage)
        clock.advance(seconds)
    assert pauses.longest_s() == {"poll": 0.5, "commit": 0.25, "wait": 0.0}
    assert pauses.last == ("wait", clock())


def test_a_pause_is_seen_while_it_lasts(pauses: Pauses, clock: Clock) -> None:
    pauses.beat("commit")
    clock.advance(500.0)
    assert pauses.longest_s() == {"commit": 500.0}


@pytest.mark.parametrize(("after_s", "there"), [(59, True), (61, True), (125, False)])
def test_a_pause_stays_for_a_window_at_least_and_two_at_most(
    pauses: Pauses, clock: Clock, after_s: int, there: bool
) -> None:
    pauses.beat("commit")
    clock.advance(3.0)
    for _ in range(after_s):
        pauses.beat("poll")
        clock.advance(1.0)
    assert ("commit" in pauses.longest_s()) == there
    assert pauses.longest_s()["poll"] == 1.0


def test_asking_takes_nothing_away(pauses: Pauses, clock: Clock) -> None:
    pauses.beat("commit")
    clock.advance(3.0)
    pauses.beat("poll")
    assert pauses.longest_s() == pauses.longest_s() == {"commit": 3.0, "poll": 0.0}


def test_a_pause_longer_than_a_window_is_not_forgotten_at_its_end(pauses: Pauses, clock: Clock) -> None:
    pauses.beat("submit")
    clock.advance(1.0)
    pauses.beat("commit")
    clock.advance(500.0)
    pauses.beat("poll")
    assert pauses.longest_s() == {"commit": 500.0, "poll": 0.0}
