"""What the pauses of a loop are written down as."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import pytest

from load_tests.beats import LONGEST, Beats
from streamer.records import Partition


@dataclass
class Loop:
    """Time passes, of it some without a core; the end is asked for or not."""

    now_s: float = 100.0
    waited_s: float = 3.0
    ending: bool = False

    def beats(self) -> Beats:
        return Beats(
            clock=lambda: self.now_s,
            waited=lambda: self.waited_s,
            stack=lambda: [f"at {self.now_s:g}"],
            ending=lambda: self.ending,
        )

    def pass_by(self, seconds: float, *, without_core_s: float = 0.0) -> None:
        self.now_s += seconds
        self.waited_s += without_core_s


def test_a_pause_lasts_from_one_beat_to_the_next_and_has_its_own_part() -> None:
    loop = Loop()
    beats = loop.beats()
    beats.beat("poll")
    loop.pass_by(0.5, without_core_s=0.25)
    beats.beat("send")
    loop.pass_by(1.0)
    beats.beat("poll")
    assert beats.pauses == {"poll": [(0.5, 0.25)], "send": [(1.0, 0.0)]}
    assert [(one.stage, one.at_s, one.stack) for one in beats.longest] == [
        ("send", 0.5, ["at 101.5"]),
        ("poll", 0.0, ["at 100.5"]),
    ]


def test_a_pause_with_a_rebalance_in_it_is_told_apart() -> None:
    loop = Loop()
    beats = loop.beats()
    beats.beat("poll")
    beats.assigned([Partition("a", 0)])
    loop.pass_by(1.0)
    beats.beat("poll")
    beats.revoked([Partition("a", 0)], lost=False)
    loop.pass_by(1.0)
    beats.beat("poll")
    assert list(beats.pauses) == ["assigned", "revoked"]


def test_what_comes_after_the_end_was_asked_for_is_told_apart() -> None:
    loop = Loop()
    beats = loop.beats()
    beats.beat("poll")
    loop.ending = True
    loop.pass_by(1.0)
    beats.beat("drain")
    assert list(beats.pauses) == ["ending"]


def test_the_longest_are_kept_and_all_are_counted() -> None:
    loop = Loop()
    beats = loop.beats()
    beats.beat("wait")
    for i in range(1, 3 * LONGEST):
        loop.pass_by(float(i))
        beats.beat("wait")
    report = orjson.loads(beats.report())
    assert len(report["pauses"]["wait"]) == 3 * LONGEST - 1
    assert [one["seconds"] for one in report["longest"]] == pytest.approx(
        [float(i) for i in range(3 * LONGEST - 1, 2 * LONGEST - 1, -1)]
    )
