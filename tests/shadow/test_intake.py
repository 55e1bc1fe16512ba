"""The queue between the road and its shadow: bounded in records and bytes, and never waited for by the road."""

from __future__ import annotations

from streamer.records import Position
from streamer.shadow.event import Case
from streamer.shadow.intake import Intake, Yielding
from tests.shadow.conftest import road_verdict


def cases(*texts: str) -> list[Case]:
    return [Case(Position("in", 0, i), None, None, text, road_verdict()) for i, text in enumerate(texts)]


def test_what_there_is_no_room_for_comes_back() -> None:
    intake = Intake(most_records=3, most_bytes=1000)
    intake.open()
    given = cases("a", "b", "c", "d")
    assert intake.offer(given) == given[3:]
    assert intake.take(2, 0.0) == given[:2]
    assert intake.offer(given[3:]) == []
    assert len(intake) == 2
    assert intake.take(9, 0.0) == given[2:]
    assert intake.take(9, 0.0) == []


def test_bytes_bound_it_too() -> None:
    intake = Intake(most_records=100, most_bytes=1000)
    intake.open()
    small, large = cases("a", "x" * 240)
    assert intake.offer([large, large, small]) == [large]
    intake.take(1, 0.0)
    assert intake.offer([large]) == []


def test_closed_it_takes_nothing_and_gives_back_what_waits() -> None:
    intake = Intake(most_records=3, most_bytes=1000)
    (one,) = cases("a")
    assert intake.offer([one]) == [one]
    intake.open()
    assert intake.is_open
    assert intake.offer([one]) == []
    assert intake.close() == [one]
    assert intake.offer([one]) == [one]
    assert len(intake) == 0


def test_the_device_is_free_while_the_road_has_nothing_under_way() -> None:
    yielding = Yielding()
    assert yielding.wait(0.0)
    yielding.submitted()
    yielding.submitted()
    yielding.returned()
    assert not yielding.wait(0.0)
    yielding.returned()
    assert yielding.wait(0.0)
