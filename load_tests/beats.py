"""`streamer run` with every pause of its loop written down.

    python -m load_tests.beats PAUSES.json -c streamer.yaml

Composed as `streamer run` is, with one more observer. Enters: a settings file. Leaves: what `streamer run` leaves, and
at its end a file with, by stage, the length of every pause between two heartbeats; and of the longest ones, where the
loop's thread was meanwhile. A pause in which partitions came or went counts to the stages `assigned` and `revoked`, all
after the end was asked for to `ending`.

Beside the wall clock each pause has the time in which the thread was ready to go on and the system gave it no core
(Linux alone tells: /proc/self/task/N/schedstat): what is left when it is taken off is what the loop itself did.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Annotated

import orjson
import typer

from streamer.app import connect
from streamer.errors import StreamerError
from streamer.observe import Observer
from streamer.records import Partition
from streamer.serving import serve
from streamer.settings import load_settings
from streamer.signals import stop_on_signals
from streamer.telemetry.logs import configure_logs

ENDING, ASSIGNED, REVOKED = "ending", "assigned", "revoked"
LONG_S = 0.055  # a wait of 50 ms is as designed; beyond it the stack is looked at
LOOK_S = 0.01
LONGEST = 20
FRAMES = 12


@dataclass(frozen=True, slots=True)
class Pause:
    """Between two heartbeats. `waited_s` of its `seconds` there was no core for the thread."""

    stage: str
    at_s: float
    seconds: float
    waited_s: float
    stack: list[str]


class Beats(Observer):
    """Keeps every pause. `clock` is monotonic seconds, `waited` how long this thread has waited for a core so far,
    `stack` takes what was seen of it while the pause lasted, `ending` whether the end was asked for."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        waited: Callable[[], float],
        stack: Callable[[], list[str]],
        ending: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._waited = waited
        self._stack = stack
        self._ending = ending
        self._began_s = clock()
        self._last: tuple[str, float, float] | None = None
        self.since: tuple[str, float] | None = None  # for whoever looks on from another thread
        self.pauses: dict[str, list[tuple[float, float]]] = defaultdict(list)  # seconds, waited_s
        self.longest: list[Pause] = []

    def beat(self, stage: str) -> None:
        now_s, waited_s = self._clock(), self._waited()
        if self._last is not None:
            self._keep(*self._last, now_s, waited_s)
        self._last = stage, now_s, waited_s
        self.since = stage, now_s

    def _keep(self, stage: str, since_s: float, waited_before_s: float, now_s: float, waited_s: float) -> None:
        pause = Pause(
            ENDING if self._ending() else stage,
            round(since_s - self._began_s, 3),
            now_s - since_s,
            waited_s - waited_before_s,
            self._stack(),
        )
        self.pauses[pause.stage].append((pause.seconds, pause.waited_s))
        if len(self.longest) < LONGEST or pause.seconds > self.longest[-1].seconds:
            self.longest = sorted([*self.longest, pause], key=lambda one: -one.seconds)[:LONGEST]

    def assigned(self, partitions: Collection[Partition]) -> None:
        self._rename(ASSIGNED)

    def revoked(self, partitions: Collection[Partition], lost: bool) -> None:
        self._rename(REVOKED)

    def _rename(self, stage: str) -> None:
        if self._last is not None:
            self._last = (stage, *self._last[1:])

    def report(self) -> bytes:
        """JSON: `pauses` (stage -> [seconds, waited_s] pairs in order) and `longest`, with their stacks."""
        return orjson.dumps({"pauses": self.pauses, "longest": [asdict(one) for one in self.longest]})


class Onlooker:
    """Looks at one thread from another, and remembers where it was in a pause that lasts."""

    def __init__(self, thread: int) -> None:
        self._thread = thread
        self._stack: list[str] = []
        self._stop = Event()

    def take(self) -> list[str]:
        """Where the thread was in the pause now over; nothing when that was short."""
        stack, self._stack = self._stack, []
        return stack

    @contextmanager
    def looking(self, beats: Beats) -> Iterator[None]:
        thread = threading.Thread(target=self._look, args=(beats,), name="onlooker", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _look(self, beats: Beats) -> None:
        while not self._stop.wait(LOOK_S):
            since = beats.since
            if since is None or time.monotonic() - since[1] < LONG_S or self._stack:
                continue
            frame = sys._current_frames().get(self._thread)
            frames = islice(traceback.walk_stack(frame), FRAMES) if frame is not None else ()
            stack = [f"{one.f_code.co_name} ({Path(one.f_code.co_filename).name}:{line})" for one, line in frames]
            if beats.since == since:
                self._stack = stack


@contextmanager
def core_waits() -> Iterator[Callable[[], float]]:
    """Seconds that the calling thread has been ready without a core, so far; 0 where the system does not tell."""
    path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
    if not Path(path).exists():
        yield lambda: 0.0
        return
    with open(path, "rb") as file:
        number = file.fileno()
        yield lambda: int(os.pread(number, 100, 0).split()[1]) / 1e9


def main(
    pauses: Annotated[Path, typer.Argument(dir_okay=False, help="Where pauses are written to.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="Settings file (YAML).")],
) -> None:
    """Label the topics of a settings file until SIGINT or SIGTERM."""
    settings = load_settings(config)
    configure_logs(level=settings.log.level, form="json", stream=sys.stderr)
    stop = stop_on_signals()
    onlooker = Onlooker(threading.get_ident())
    with core_waits() as waited, connect(settings) as connection:
        beats = Beats(clock=time.monotonic, waited=waited, stack=onlooker.take, ending=stop.is_set)
        try:
            with onlooker.looking(beats):
                serve(settings, connection=connection, stop=stop, observers=[beats], settings_path=config)
        except StreamerError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from None
        finally:
            pauses.write_bytes(beats.report())


if __name__ == "__main__":
    typer.run(main)
