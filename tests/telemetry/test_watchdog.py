"""An incident is one line that says where everybody stands, and one when it is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from structlog.testing import capture_logs

from streamer.engine.base import EngineFacts
from streamer.engine.fake import FakeClassifier
from streamer.facets import LabelSet
from streamer.records import Document
from streamer.telemetry.health import Health
from streamer.telemetry.watchdog import Watchdog

FACTS = EngineFacts(documents=1, batches=1, tokens=1, padded_tokens=1, tokenise_s=0.0, forward_s=0.0)


class Clock(Protocol):
    def __call__(self) -> float: ...

    def advance(self, seconds: float) -> None: ...


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock=clock, stuck_after_s=30.0, engine_stuck_after_s=120.0)


@pytest.fixture
def watchdog(health: Health, clock: Clock) -> Watchdog:
    return Watchdog(health=health, clock=clock, interval_s=1.0)


def test_a_loop_that_goes_on_is_not_mentioned(watchdog: Watchdog, health: Health, clock: Clock) -> None:
    with capture_logs() as lines:
        watchdog.look()  # the model loads
        health.started()
        for _ in range(100):
            health.beat("poll")
            clock.advance(29.0)
            watchdog.look()
    assert lines == []


def test_an_incident_is_told_once_and_its_end(watchdog: Watchdog, health: Health, clock: Clock) -> None:
    with capture_logs() as lines:
        health.started()
        health.beat("commit")
        for _ in range(90):
            clock.advance(1.0)
            watchdog.look()
        health.beat("poll")
        clock.advance(1.0)
        watchdog.look()
        watchdog.look()
    began, ended = lines
    assert (began["event"], began["log_level"], began["stage"]) == ("standing still", "error", "commit")
    assert began["reasons"] == ["the loop stands still in 'commit' for 31 s (limit 30 s)"]
    assert began["beat_age_s"] == 31.0
    assert (ended["event"], ended["log_level"], ended["after_s"]) == ("going on again", "warning", 60.0)


def test_each_incident_is_told(watchdog: Watchdog, health: Health, clock: Clock) -> None:
    with capture_logs() as lines:
        for stage in ("send", "rewind"):
            health.beat(stage)
            clock.advance(40.0)
            watchdog.look()
            health.beat("poll")
            watchdog.look()
    assert [line["stage"] for line in lines if line["log_level"] == "error"] == ["send", "rewind"]


def deep(left: int, reached: threading.Event, release: threading.Event, text: str) -> None:
    if left:
        deep(left - 1, reached, release, text)
        return
    reached.set()
    release.wait(30)


@pytest.fixture
def deep_thread() -> Iterator[threading.Thread]:
    """A thread 200 calls deep, with a text in each frame."""
    reached, release = threading.Event(), threading.Event()
    thread = threading.Thread(target=deep, args=(200, reached, release, "private words"), name="deep")
    thread.start()
    assert reached.wait(10)
    yield thread
    release.set()
    thread.join()


def test_stacks_are_bounded_and_hold_no_values(
    watchdog: Watchdog, health: Health, clock: Clock, deep_thread: threading.Thread
) -> None:
    health.started()
    clock.advance(31.0)
    with capture_logs() as lines:
        watchdog.look()
    stacks: dict[str, list[str]] = lines[0]["stacks"]
    (frames,) = [stack for name, stack in stacks.items() if name.startswith("deep ")]
    assert 5 < len(frames) <= 30
    assert any(frame.startswith("deep (") and f"{__file__}:" in frame for frame in frames)
    assert "private words" not in repr(lines)


def until(lines: list[Any], event: str) -> Any:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for line in list(lines):
            if line["event"] == event:
                return line
        time.sleep(0.01)
    pytest.fail(f"{event!r} was not logged")


def test_an_engine_that_hangs_is_seen_with_the_stack_of_its_worker(label_set: LabelSet) -> None:
    release = threading.Event()

    def hang(_seconds: float) -> None:
        release.wait(30)

    classifier = FakeClassifier(window_tokens=64, max_tokens=1000, window_s=0.0, record_s=1.0, sleep=hang)
    health = Health(clock=time.monotonic, stuck_after_s=0.3, engine_stuck_after_s=0.1)
    watchdog = Watchdog(health=health, clock=time.monotonic, interval_s=0.02)
    with capture_logs() as lines:
        watchdog.start()
        try:
            health.started()
            pending = classifier.submit([Document("private words", label_set)])
            health.submitted(1)
            health.beat("wait")
            line = until(lines, "standing still")
            assert line["stage"] == "wait"
            assert line["engine_wait_s"] > 0.1
            assert any("window is under way" in reason for reason in line["reasons"])
            (worker,) = [stack for name, stack in line["stacks"].items() if name.startswith("engine-prepare_0 ")]
            assert any("fake.py:" in frame for frame in worker)
            assert "private words" not in repr(line)
            release.set()
            result = pending.wait(10)
            assert result is not None
            health.scored(result.facts, 0.2)
            health.beat("poll")
            assert until(lines, "going on again")["after_s"] >= 0
        finally:
            release.set()
            watchdog.stop()
            classifier.close()
