"""What a scale run tells: rates, pauses, lag and recovery, from when the broker appended each message.

Enters: inputs and outputs with the moments at which the broker took them, and when something was done to the group.
Leaves: rates, Effects, who was lost or came twice. Plain values in and out; must not know Kafka or processes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

STEADY_SHARE = 0.8
LOOK_S = 0.1
BEFORE_S = 5.0  # what lag was like before: the median
# so many times as much, or the records of so long, is still as before: what is left of a group has more to do each
USUAL, USUAL_S = 2.0, 0.25
HOLD_S = 2.0  # for so long it must be so again


@dataclass(frozen=True, slots=True)
class Input:
    """A record: its partition, and when the broker had it (Unix seconds)."""

    partition: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Output:
    """An event: the id of its record, and when the broker had it (Unix seconds)."""

    of: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Move:
    """Something done to the group (Unix seconds); `until_s`: the next thing done, or the end."""

    what: str
    at_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class Effect:
    """What a move did. Pauses are the longest time without an output: of any one partition, and of all together.

    `calm_s`: the longest pause of a partition in the seconds before, for comparison. `longest_wait_s`: the longest that
    a record took from input to output. Lag counts records that are there and have no output yet; `lag_before` is the
    median of the last seconds, `recovered_s` the time from the move until lag was about that again, None where it never
    was."""

    what: str
    pause_s: float
    partition_pause_s: float
    calm_s: float
    longest_wait_s: float
    lag_before: int
    lag_peak: int
    recovered_s: float | None


class Traffic:
    """All inputs and outputs of a run; `inputs` by id. Raises ValueError without outputs."""

    def __init__(self, inputs: Mapping[str, Input], outputs: Sequence[Output]) -> None:
        if not outputs:
            raise ValueError("nothing came out")
        self._inputs = inputs
        self._outputs = sorted(outputs, key=lambda one: one.at_s)
        self._firsts: dict[str, float] = {}
        self.again: list[Output] = []  # outputs beyond the first of their record
        for one in self._outputs:
            if one.of in self._firsts:
                self.again.append(one)
            else:
                self._firsts[one.of] = one.at_s
        self._came_s = sorted(one.at_s for one in inputs.values())
        self._went_s = sorted(self._firsts.values())

    @property
    def lost(self) -> int:
        """Records without an output."""
        return len(self._inputs.keys() - self._firsts.keys())

    @property
    def unknown(self) -> int:
        """Outputs of no record."""
        return len(self._firsts.keys() - self._inputs.keys())

    def steady_rate(self) -> float:
        """Records a second in the middle 80 % of all outputs, so that neither start nor end counts."""
        edge = int(len(self._went_s) * (1 - STEADY_SHARE) / 2)
        first, last = edge, len(self._went_s) - 1 - edge
        seconds = self._went_s[last] - self._went_s[first]
        if seconds <= 0:
            raise ValueError(f"{len(self._went_s)} outputs are too few to tell a rate")
        return (last - first) / seconds

    def lag(self, at_s: float) -> int:
        """Records that are there then and have no output yet."""
        return bisect_right(self._came_s, at_s) - bisect_right(self._went_s, at_s)

    def effect(self, move: Move) -> Effect:
        """What a move did until the next one."""
        before = int(median(self.lag(at_s) for at_s in _moments(move.at_s - BEFORE_S, move.at_s)))
        after = [self.lag(at_s) for at_s in _moments(move.at_s, move.until_s)]
        by_partition = self._by_partition()
        waits = [
            went_s - self._inputs[of].at_s
            for of, went_s in self._firsts.items()
            if of in self._inputs and move.at_s <= went_s <= move.until_s
        ]
        return Effect(
            what=move.what,
            pause_s=round(longest_gap(self._went_s, move.at_s, move.until_s), 2),
            partition_pause_s=round(_longest(by_partition.values(), move.at_s, move.until_s), 2),
            calm_s=round(_longest(by_partition.values(), move.at_s - BEFORE_S, move.at_s), 2),
            longest_wait_s=round(max(waits, default=0.0), 2),
            lag_before=before,
            lag_peak=max(after),
            recovered_s=_recovered_s(after, max(USUAL * before, USUAL_S * self._came_per_s())),
        )

    def _came_per_s(self) -> float:
        return len(self._came_s) / max(self._came_s[-1] - self._came_s[0], LOOK_S)

    def _by_partition(self) -> dict[int, list[float]]:
        """Partition -> when its outputs came, in order."""
        found: dict[int, list[float]] = {one.partition: [] for one in self._inputs.values()}
        for of, went_s in self._firsts.items():
            if of in self._inputs:
                found[self._inputs[of].partition].append(went_s)
        return {partition: sorted(moments) for partition, moments in found.items()}

    def twice(self, allowed_s: Sequence[float], within_s: float) -> Counter[str]:
        """Records that came twice: `by loss` within so long after a moment allowed for it, else `unasked`."""
        return Counter(
            "by loss" if any(0 <= one.at_s - at_s <= within_s for at_s in allowed_s) else "unasked"
            for one in self.again
        )


def longest_gap(moments: Sequence[float], from_s: float, to_s: float) -> float:
    """The longest time without a moment, of those that end, or have not ended, between `from_s` and `to_s`; `moments`
    in order."""
    first, last = bisect_right(moments, from_s), bisect_right(moments, to_s)
    edges = [moments[first - 1] if first else from_s, *moments[first:last], to_s]
    return max(later - earlier for earlier, later in pairwise(edges))


def _longest(partitions: Iterable[Sequence[float]], from_s: float, to_s: float) -> float:
    return max(longest_gap(moments, from_s, to_s) for moments in partitions)


def _moments(from_s: float, to_s: float) -> list[float]:
    return [from_s + LOOK_S * i for i in range(max(1, int((to_s - from_s) / LOOK_S)))]


def _recovered_s(lags: Sequence[int], bound: float) -> float | None:
    """Seconds until lag, looked at every LOOK_S, is at `bound` or below for HOLD_S, after it was highest; 0 where it
    never rose above."""
    if max(lags) <= bound:
        return 0.0
    hold, calm = int(HOLD_S / LOOK_S), 0
    for at in range(lags.index(max(lags)), len(lags)):
        calm = calm + 1 if lags[at] <= bound else 0
        if calm >= hold:
            return round((at - hold + 1) * LOOK_S, 1)
    return None
