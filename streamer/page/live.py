"""The live page of one process: what it shows, brought up to date once a second.

Enters: hooks of `observe.Observer`, readings of the metrics. Leaves: messages for browsers, as JSON. Must not know:
HTTP, the loop, settings.

A thread of its own takes a reading every second, also while nobody looks: whoever opens the page sees the last minutes.
A message is made when somebody asks for it, on the asking thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from streamer import __version__
from streamer.drift.report import StreamDrift
from streamer.engine.base import ModelInfo
from streamer.facets import LabelSet
from streamer.page.history import History, Point
from streamer.page.readings import NAMES, PAUSED, Reading, Values
from streamer.page.state import Condition, Serving, condition_of, record_of, state_of
from streamer.page.watch import PageObserver
from streamer.records import Stream

TICK_S = 1.0
MOST_BUSY = 0.05  # of a core; with thousands of labels a reading takes long, and is taken less often
BUSY_POINTS = 5  # so long after the last record it still counts as labelling
_STOP_S = 1.0


class Since(NamedTuple):
    """What a browser was sent last; the numbers of a tick, a record, a point and a bucket."""

    tick: int = 0
    record: int = 0
    point: int = 0
    bucket: int = 0


@dataclass(frozen=True, slots=True)
class PageOptions:
    """Whether texts are shown, and the token that whoever looks must know; None for no token."""

    show_text: bool
    token: str | None


class LivePage:
    """Watches from `start` to `stop`.

    `values` gives metrics by name. `alive` and `ready` give reasons against either, `drift` the streams lately (None:
    not watched). `clock` is monotonic seconds, `wall_clock` Unix time.
    """

    def __init__(
        self,
        *,
        show_text: bool,
        streams: Sequence[Stream],
        values: Values,
        alive: Callable[[], Sequence[str]],
        ready: Callable[[], Sequence[str]],
        drift: Callable[[], Sequence[StreamDrift]] | None,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._show_text = show_text
        self._streams = tuple(streams)
        self._values = values
        self._alive = alive
        self._ready = ready
        self._drift = drift
        self._clock = clock
        self._wall_clock = wall_clock
        self._serving: Serving | None = None
        self._history = History(began_s=clock())
        self._ticks = 0
        self._state: bytes = b"{}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-page", daemon=True)
        self.observer = PageObserver(show_text=show_text, wall_clock=wall_clock)
        self.tick()

    def serving(self, model: ModelInfo, label_sets: Collection[LabelSet], *, window_records: int) -> None:
        """What the loop begins with."""
        self.observer.serving(label_sets)
        self._serving = Serving(model, window_records)

    @property
    def open(self) -> bool:
        """Whether browsers may stay connected."""
        return not self._stop.is_set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take no more readings, and let browsers go; once, after `start`."""
        self._stop.set()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        wait_s = TICK_S
        while not self._stop.wait(wait_s):
            began_s = time.thread_time()
            self.tick()
            wait_s = max(TICK_S, (time.thread_time() - began_s) / MOST_BUSY)

    def tick(self) -> None:
        """Bring what is shown up to date: once a second, by one thread."""
        reading = Reading(self._values(NAMES))
        if self.observer.running:
            published, latencies_s = self.observer.latencies_s()
            self._history.add(
                reading,
                now_s=self._clock(),
                wall_s=self._wall_clock(),
                published=published,
                latencies_s=latencies_s,
            )
        self.observer.tick()
        state = state_of(
            reading,
            self.observer,
            condition=self._condition(reading),
            serving=self._serving,
            streams=self._streams,
            ids=self._history.ids,
            drift=None if self._drift is None else self._drift(),
        )
        self._state = orjson.dumps({**state, "version": __version__, "show_text": self._show_text})
        self._ticks += 1

    def _condition(self, reading: Reading) -> Condition:
        lately = self._history.points(after=0)[-BUSY_POINTS:]
        return condition_of(
            self._alive(),
            self._ready(),
            running=self.observer.running,
            paused=[topic for (topic,), value in reading.of(PAUSED).items() if value],
            busy=any(point.labelled_per_s or point.read_per_s for point in lately),
        )

    def message(self, since: Since) -> tuple[bytes | None, Since]:
        """JSON of what is new to a browser, and what it has then been sent; None while there is nothing.

        A browser that was sent nothing yet gets `whole: true`, and everything that is kept.
        """
        ticks = self._ticks
        if ticks == since.tick:
            return None, since
        records = [one for one in self.observer.records() if one.number > since.record]
        points = self._history.points(after=since.point)
        buckets = self._history.buckets(after=since.bucket)
        body = orjson.dumps(
            {
                "whole": since.tick == 0,
                "now_s": self._wall_clock(),
                "state": orjson.Fragment(self._state),
                "records": [record_of(one) for one in records],
                "points": [_rounded(one) for one in points],
                "buckets": [[one.at_s, *one.counts] for one in buckets],
            }
        )
        return body, Since(
            ticks,
            records[-1].number if records else since.record,
            points[-1].number if points else since.point,
            buckets[-1].number if buckets else since.bucket,
        )


def _rounded(point: Point) -> list[float | list[float] | None]:
    """A point as a row; browsers know the order."""
    return [
        round(point.at_s, 1),
        round(point.read_per_s, 2),
        round(point.labelled_per_s, 2),
        round(point.dead_per_s, 2),
        int(point.lag_records),
        None if point.lag_s is None else round(point.lag_s, 3),
        None if point.latency is None else [round(max(0.0, one), 4) for one in point.latency],
        None if point.window_documents is None else round(point.window_documents, 1),
    ]
