"""The road with a shadow beside it, on the in-memory broker: whatever the shadow does, the road is as without it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from streamer.observe import Observers
from tests.shadow.conftest import SIDE_TOPIC, Shadow
from tests.test_pipeline import BOTH, Road, Watch, text

MakeShadow: TypeAlias = Callable[..., Shadow]
RECORDS = 300


def hangs(shadow: Shadow) -> None:
    shadow.engine.hang = True


def fails(shadow: Shadow) -> None:
    shadow.engine.fail = True


def is_slow(shadow: Shadow) -> None:
    shadow.engine.window_s = 0.5


def is_well(shadow: Shadow) -> None:
    """Nothing is wrong with it."""


class Timed(Observers):
    """The shadow's observer, and the longest time that a call of it took."""

    def __init__(self, shadow: Shadow) -> None:
        super().__init__(shadow.road)
        self.longest_s = 0.0

    def labelled(self, *given: Any) -> None:
        begun_s = time.thread_time()
        super().labelled(*given)
        self.longest_s = max(self.longest_s, time.thread_time() - begun_s)


def labelled(promise: str, shadow: Shadow | None) -> tuple[Road, Watch, float]:
    """A road that ran to its end; the longest time, in seconds, that it spent on its shadow for a window."""
    road = Road(promise)
    road.produce(*(text(f"ticket {i}") for i in range(RECORDS)), None, b"{")
    watch = Watch(RECORDS + 2)
    timed = None if shadow is None else Timed(shadow)
    pipeline = road.pipeline(watch if timed is None else Observers(watch, timed))
    if shadow is not None:
        shadow.start()
    try:
        pipeline.run(watch.stop)
    finally:
        road.classifier.close()
    return road, watch, 0.0 if timed is None else timed.longest_s


@BOTH
@pytest.mark.parametrize("ails", [hangs, fails, is_slow, is_well])
def test_the_road_is_as_without_a_shadow(make_shadow: MakeShadow, promise: str, ails: Callable[[Shadow], None]) -> None:
    plain, _, _ = labelled(promise, None)
    shadow = make_shadow()
    ails(shadow)
    road, watch, longest_s = labelled(promise, shadow)

    def outcome(one: Road) -> tuple[dict[str, Any], dict[str, str], dict[int, int | None]]:
        events = {id_: {**event, "classified_at_ms": 0} for id_, event in one.events("tickets.out").items()}
        return events, one.dead("tickets.dead"), one.committed("tickets")

    assert outcome(road) == outcome(plain)
    assert watch.counts["ended"] == RECORDS + 2
    assert longest_s < 0.05  # of some 0.1 ms; never anything that waits
    assert len(shadow.intake) <= 16


def test_every_record_of_the_share_is_scored_or_counted(make_shadow: MakeShadow) -> None:
    shadow = make_shadow(most_records=1000, most_bytes=10**6)
    labelled("at_least_once", shadow)
    shadow.told.wait_for(lambda: len(shadow.told.agreed) + sum(shadow.told.dropped.values()) == RECORDS)
    assert len(shadow.broker.messages(SIDE_TOPIC)) == len(shadow.told.agreed) == RECORDS


def test_texts_that_wait_are_bounded_in_bytes(make_shadow: MakeShadow) -> None:
    shadow = make_shadow(most_records=10_000)
    shadow.engine.hang = True
    shadow.start()
    shadow.offer(*(f"{i} " + "x" * 400 for i in range(200)))
    assert len(shadow.intake) <= 10_000 // (4 * 400)
    assert shadow.told.dropped["behind"] > 150
