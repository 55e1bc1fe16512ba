from __future__ import annotations

from typing import Protocol

import pytest

from streamer.engine.base import EngineFacts
from streamer.records import Partition
from streamer.telemetry.health import Health

FACTS = EngineFacts(documents=1, batches=1, tokens=1, padded_tokens=1, tokenise_s=0.0, forward_s=0.0)
ONE, OTHER = Partition("tickets.raw", 0), Partition("tickets.raw", 1)


class Clock(Protocol):
    def __call__(self) -> float: ...

    def advance(self, seconds: float) -> None: ...


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock=clock, stuck_after_s=30.0, engine_stuck_after_s=120.0)


def run_loop(health: Health, clock: Clock, seconds: int) -> None:
    for _ in range(seconds):
        clock.advance(1.0)
        health.beat("poll")


def test_alive_while_starting_however_long(health: Health, clock: Clock) -> None:
    clock.advance(10_000)
    assert health.alive()["ok"]
    assert health.alive()["beat_age_s"] is None
    assert not health.ready()["ok"]
    assert health.ready()["reasons"] == ["the model is not warm yet"]


def test_a_loop_that_stands_still_is_not_alive(health: Health, clock: Clock) -> None:
    health.started()
    clock.advance(30.0)
    assert health.alive()["ok"]
    clock.advance(0.5)
    report = health.alive()
    assert not report["ok"]
    assert report["reasons"] == ["the loop stands still in 'start' for 30.5 s (limit 30 s)"]
    health.beat("commit")
    assert health.alive() == {
        "ok": True,
        "reasons": [],
        "stage": "commit",
        "beat_age_s": 0.0,
        "longest_pause_s": 30.5,
        "engine_wait_s": None,
        "partitions": 0,
    }


def test_the_stage_that_holds_the_loop_up_is_named(health: Health, clock: Clock) -> None:
    health.started()
    for stage in ("poll", "submit", "commit"):
        clock.advance(0.04)
        health.beat(stage)
    clock.advance(31.0)
    assert health.alive()["reasons"] == ["the loop stands still in 'commit' for 31 s (limit 30 s)"]
    assert health.longest_pauses_s() == pytest.approx({"start": 0.04, "poll": 0.04, "submit": 0.04, "commit": 31.0})
    assert health.ready()["longest_pause_s"] == 31.0


def test_an_engine_that_stands_still_is_not_alive_though_the_loop_beats(health: Health, clock: Clock) -> None:
    health.started()
    health.submitted(100)
    run_loop(health, clock, 120)
    assert health.alive()["ok"]
    run_loop(health, clock, 1)
    assert health.alive()["reasons"] == ["a window is under way for 121.0 s (limit 120 s)"]
    health.scored(FACTS, 121.0)
    assert health.alive()["ok"]


def test_a_queued_window_is_timed_from_its_turn(health: Health, clock: Clock) -> None:
    health.started()
    health.submitted(100)
    health.submitted(100)
    run_loop(health, clock, 100)
    health.scored(FACTS, 100.0)
    run_loop(health, clock, 100)
    assert health.alive()["ok"]
    assert health.alive()["engine_wait_s"] == 100.0
    health.scored(FACTS, 200.0)
    run_loop(health, clock, 500)
    assert health.alive()["ok"]


def test_ready_needs_a_warm_model_and_an_assignment(health: Health) -> None:
    health.assigned([ONE])
    assert not health.ready()["ok"]
    health.started()
    assert health.ready()["ok"]
    assert health.ready()["partitions"] == 1


def test_waiting_for_the_group_is_not_ready(health: Health) -> None:
    health.started()
    assert health.ready()["reasons"] == ["the consumer group has assigned nothing yet"]


def test_an_idle_member_is_ready(health: Health) -> None:
    health.started()
    health.assigned([])
    assert health.ready()["ok"]


def test_rebalances_keep_a_member_ready_and_losing_everything_does_not(health: Health) -> None:
    health.started()
    health.assigned([ONE])
    health.assigned([OTHER])
    assert health.ready()["partitions"] == 2
    health.revoked([ONE, OTHER], lost=False)
    assert health.ready()["ok"]
    health.assigned([ONE, OTHER])
    health.revoked([ONE], lost=True)
    assert health.ready()["ok"]
    health.revoked([OTHER], lost=True)
    assert not health.ready()["ok"]
    health.assigned([OTHER])
    assert health.ready()["ok"]


def test_stopped_is_not_ready_and_still_has_to_end(health: Health, clock: Clock) -> None:
    health.started()
    health.assigned([ONE])
    health.stopped()
    assert health.ready()["reasons"] == ["stopped"]
    assert health.alive()["ok"]
    clock.advance(31.0)
    assert not health.alive()["ok"]
