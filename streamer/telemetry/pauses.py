"""How long the loop stood still between two heartbeats, and before what.

Enters: heartbeats, each with the name of what the loop is about to do. Leaves: the stage it is in, and the longest
recent pause of each stage. Must not know: what the stages do, who asks.

Fed by the loop's thread, asked from any: as in health.py every value is replaced whole, and no lock is needed.
"""

from __future__ import annotations

from collections.abc import Callable


class Pauses:
    """Remembers the longest pauses of the last `window_s` to `2 * window_s` seconds; `clock` is monotonic seconds.

    A window of time rather than "since last asked": several may ask, and none must take the answer from another.
    """

    def __init__(self, *, clock: Callable[[], float], window_s: float) -> None:
        self._clock = clock
        self._window_s = window_s
        self._last: tuple[str, float] | None = None  # the stage the loop is in, and since when
        self._before: dict[str, float] = {}  # longest pause by stage, of the window before this one
        self._now: dict[str, float] = {}
        self._window_ends_s = clock() + window_s

    @property
    def last(self) -> tuple[str, float] | None:
        """The stage that the loop is in and when it went there, by the clock; None before the first beat."""
        return self._last

    def beat(self, stage: str) -> None:
        """The loop is about to do `stage`."""
        now, last = self._clock(), self._last
        self._last = stage, now
        if last is not None:
            _put(self._now, last, now)
        if now < self._window_ends_s:
            return
        self._before, self._now = self._now, {}
        if last is not None and now >= self._window_ends_s + self._window_s:
            self._before = {}  # it stood still for a whole window: what came before that is too old
            _put(self._before, last, now)
        self._window_ends_s = now + self._window_s

    def longest_s(self) -> dict[str, float]:
        """Seconds by stage, the pause under way among them."""
        # in this order, so that what moves from one to the next in between is not missed
        last, longest, before = self._last, self._now.copy(), self._before.copy()
        for stage, seconds in before.items():
            longest[stage] = max(seconds, longest.get(stage, 0.0))
        if last is not None:
            _put(longest, last, self._clock())
        return longest


def _put(longest_s: dict[str, float], last: tuple[str, float], now: float) -> None:
    stage, since = last
    longest_s[stage] = max(now - since, longest_s.get(stage, 0.0))
