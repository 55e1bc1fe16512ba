"""Says where the process stands still, while it does.

Enters: what Health tells of the loop and the engine. Leaves: one log line per incident, with the stacks of all
threads, and one when it is over. Must not know: what the stages do. It ends nothing: liveness (/healthz) fails at the
same moment, and the supervisor restarts.

A thread that keeps the interpreter to itself silences this one too; then /healthz does not answer at all.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from itertools import islice
from types import FrameType

import structlog

from streamer.telemetry.health import Health

_MAX_THREADS = 32
_MAX_FRAMES = 30  # of each thread, the innermost
_STOP_S = 1.0


class Watchdog:
    """Looks at `health` every `interval_s` seconds from `start` to `stop`; `clock` is monotonic seconds."""

    def __init__(self, *, health: Health, clock: Callable[[], float], interval_s: float) -> None:
        self._log = structlog.get_logger()
        self._health = health
        self._clock = clock
        self._interval_s = interval_s
        self._stuck_since_s: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; once, after `start`."""
        self._stop.set()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.look()

    def look(self) -> None:
        """Log what began or ended since the last look."""
        report = self._health.alive()
        if not report["ok"] and self._stuck_since_s is None:
            self._stuck_since_s = self._clock()
            self._log.error(
                "standing still",
                reasons=report["reasons"],
                stage=report["stage"],
                beat_age_s=report["beat_age_s"],
                engine_wait_s=report["engine_wait_s"],
                stacks=_stacks(),
            )
        elif report["ok"] and self._stuck_since_s is not None:
            self._log.warning(
                "going on again", stage=report["stage"], after_s=round(self._clock() - self._stuck_since_s, 3)
            )
            self._stuck_since_s = None


def _stacks() -> dict[str, list[str]]:
    """Where every other thread is, innermost frame first: function, file and line; no values, so no user text."""
    own = threading.get_ident()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found = [(ident, frame) for ident, frame in sys._current_frames().items() if ident != own]
    stacks = {f"{names.get(ident, 'unnamed')} ({ident})": _frames(frame) for ident, frame in found[:_MAX_THREADS]}
    if len(found) > _MAX_THREADS:
        stacks["more"] = [f"{len(found) - _MAX_THREADS} threads"]
    return stacks


def _frames(innermost: FrameType) -> list[str]:
    frames = islice(traceback.walk_stack(innermost), _MAX_FRAMES)  # reads no source files
    return [f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{line})" for frame, line in frames]
