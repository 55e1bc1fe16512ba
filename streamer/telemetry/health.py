"""Is this process alive, and is it ready: two answers with reasons, from what the loop tells.

Enters: hooks of `observe.Observer`, on the loop's thread. Leaves: reports, asked for on any thread. Neither answer
looks at the broker: an unreachable broker is not mended by restarting its clients. Must not know: HTTP, Kafka.

There are no locks: every hook replaces whole values and every report reads each of them once, which the GIL makes
atomic; a report may be one hook behind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypedDict

from streamer.engine.base import EngineFacts
from streamer.observe import Observer
from streamer.records import Partition
from streamer.telemetry.pauses import Pauses

_PAUSES_WINDOW_S = 60.0  # as long as the slowest scrape in use


class Report(TypedDict):
    """`reasons` say why not, and are empty when `ok`. Ages are seconds, None where there is nothing to wait for.

    `stage` is what the loop went to do `beat_age_s` ago, `longest_pause_s` its longest pause of the last minute or two.
    """

    ok: bool
    reasons: list[str]
    stage: str | None
    beat_age_s: float | None
    longest_pause_s: float | None
    engine_wait_s: float | None
    partitions: int


class Health(Observer):
    """Watches the loop's heartbeat and the engine's progress.

    `clock` is monotonic seconds. `stuck_after_s` must exceed the longest time the loop may rightly stand still, which
    is the drain of a revoke; `engine_stuck_after_s` the longest one window may take.
    """

    def __init__(self, *, clock: Callable[[], float], stuck_after_s: float, engine_stuck_after_s: float) -> None:
        self._clock = clock
        self._stuck_after_s = stuck_after_s
        self._engine_stuck_after_s = engine_stuck_after_s
        self._pauses = Pauses(clock=clock, window_s=_PAUSES_WINDOW_S)
        self._windows = 0
        self._engine_owes_since: float | None = None  # when the window it works on now became its turn
        self._started = False
        self._stopped = False
        self._joined = False
        self._partitions: frozenset[Partition] = frozenset()

    def alive(self) -> Report:
        """Not ok when a restart is the cure: the loop or the engine stands still.

        Alive before `started`, however long loading takes (a start-up deadline is the supervisor's). The heartbeat
        also counts after `stopped`: a process that cannot end is stuck.
        """
        report = self._report()
        beat_age_s, engine_wait_s = report["beat_age_s"], report["engine_wait_s"]
        if beat_age_s is not None and beat_age_s > self._stuck_after_s:
            report["reasons"].append(
                f"the loop stands still in '{report['stage']}' for {round(beat_age_s, 1):g} s "
                f"(limit {self._stuck_after_s:g} s)"
            )
        if engine_wait_s is not None and engine_wait_s > self._engine_stuck_after_s:
            report["reasons"].append(
                f"a window is under way for {engine_wait_s:.1f} s (limit {self._engine_stuck_after_s:g} s)"
            )
        report["ok"] = not report["reasons"]
        return report

    def ready(self) -> Report:
        """Ok from a warm model and a place in the group (with partitions, or idle) until stopped."""
        report = self._report()
        if not self._started:
            report["reasons"].append("the model is not warm yet")
        elif self._stopped:
            report["reasons"].append("stopped")
        elif not self._joined:
            report["reasons"].append("the consumer group has assigned nothing yet")
        report["ok"] = not report["reasons"]
        return report

    def longest_pauses_s(self) -> dict[str, float]:
        """The loop's longest recent pauses in seconds, by stage; the one under way counts."""
        return self._pauses.longest_s()

    def _report(self) -> Report:
        last, owes_since = self._pauses.last, self._engine_owes_since
        longest_s = self._pauses.longest_s().values()
        now = self._clock()
        return Report(
            ok=True,
            reasons=[],
            stage=None if last is None else last[0],
            beat_age_s=None if last is None else round(now - last[1], 3),
            longest_pause_s=round(max(longest_s), 3) if longest_s else None,
            engine_wait_s=None if owes_since is None else round(now - owes_since, 3),
            partitions=len(self._partitions),
        )

    def started(self) -> None:
        self.beat("start")
        self._started = True

    def beat(self, stage: str) -> None:
        self._pauses.beat(stage)

    def submitted(self, documents: int) -> None:
        self._windows += 1
        if self._windows == 1:
            self._engine_owes_since = self._clock()

    def scored(self, facts: EngineFacts, engine_s: float) -> None:
        self._windows -= 1
        self._engine_owes_since = self._clock() if self._windows else None

    def assigned(self, partitions: Collection[Partition]) -> None:
        self._partitions = self._partitions.union(partitions)
        self._joined = True

    def revoked(self, partitions: Collection[Partition], lost: bool) -> None:
        self._partitions = self._partitions.difference(partitions)
        if lost and not self._partitions:  # the group has dropped this member; a mere revoke keeps its place
            self._joined = False

    def stopped(self) -> None:
        self._stopped = True
