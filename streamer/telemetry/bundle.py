"""All telemetry of one process: metrics, health, logs, the watchdog, and the port that shows them.

Enters: how to listen and when to call something stuck. Leaves: an Observer for the loop, while it is entered. Must not
know: the loop, settings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType

from streamer.drift.report import StreamDrift
from streamer.engine.base import ModelInfo
from streamer.facets import LabelSet
from streamer.observe import Observer, Observers
from streamer.page.access import Access
from streamer.page.live import LivePage, PageOptions
from streamer.page.routes import PageRoutes
from streamer.records import Stream
from streamer.telemetry.health import Health
from streamer.telemetry.http import TelemetryServer
from streamer.telemetry.logs import LogObserver
from streamer.telemetry.prometheus import PrometheusObserver
from streamer.telemetry.watchdog import Watchdog

_WATCHDOG_INTERVAL_S = 1.0


class Telemetry:
    """Listens and watches from `with` on; `address` is host and port to listen on, None for none.

    `drift` gives the streams lately, `drift_json` what `/drift` answers: None where drift is not watched. `shadow`:
    whether there is one. `page`: how the live page is shown, None for none; without an address there is none either.
    Entering raises UsageError when the address cannot be had. See Health for the two limits.
    """

    def __init__(
        self,
        *,
        streams: Sequence[Stream],
        address: tuple[str, int] | None,
        stuck_after_s: float,
        engine_stuck_after_s: float,
        drift: Callable[[], Sequence[StreamDrift]] | None,
        drift_json: Callable[[], bytes] | None,
        shadow: bool,
        page: PageOptions | None,
    ) -> None:
        health = Health(clock=time.monotonic, stuck_after_s=stuck_after_s, engine_stuck_after_s=engine_stuck_after_s)
        self._metrics = PrometheusObserver(
            streams=streams,
            wall_clock=time.time,
            longest_pauses=health.longest_pauses_s,
            drift=drift,
            shadow=shadow,
        )
        self._watchdog = Watchdog(health=health, clock=time.monotonic, interval_s=_WATCHDOG_INTERVAL_S)
        self._server = self._page = routes = None
        watching: list[Observer] = [self._metrics, health, LogObserver(clock=time.monotonic)]
        if address is not None and page is not None:
            self._page = self._live_page(page, streams, health, drift)
            routes = PageRoutes(self._page, access=Access(token=page.token, host=address[0]))
            watching.append(self._page.observer)
        if address is not None:
            self._server = TelemetryServer(
                host=address[0],
                port=address[1],
                health=health,
                metrics=self._metrics,
                drift_json=drift_json,
                page=routes,
            )
        self.observer: Observer = Observers(*watching)
        self._running = ExitStack()

    def _live_page(
        self,
        options: PageOptions,
        streams: Sequence[Stream],
        health: Health,
        drift: Callable[[], Sequence[StreamDrift]] | None,
    ) -> LivePage:
        return LivePage(
            show_text=options.show_text,
            streams=streams,
            values=self._metrics.values,
            alive=lambda: health.alive()["reasons"],
            ready=lambda: health.ready()["reasons"],
            drift=drift,
            clock=time.monotonic,
            wall_clock=time.time,
        )

    def serving(self, model: ModelInfo, label_sets: Collection[LabelSet], *, window_records: int) -> None:
        """What the loop begins with, and the most that a window holds; later label sets come by `Observer.reloaded`."""
        self._metrics.serving(model, label_sets)
        if self._page is not None:
            self._page.serving(model, label_sets, window_records=window_records)

    @property
    def page_address(self) -> str | None:
        """Where a browser of this machine finds the live page, once listening; None where there is none."""
        if self._page is None or self._server is None:
            return None
        return self._server.address

    def watch_device(self, memory: Callable[[], Mapping[str, int]]) -> None:
        """`memory` gives bytes of the model's device by state: used, reserved, total; on the thread of a scrape."""
        self._metrics.watch_device(memory)

    def __enter__(self) -> Telemetry:
        if self._server is not None:
            self._server.start()
            self._running.callback(self._server.stop)
        if self._page is not None:
            self._page.start()
            self._running.callback(self._page.stop)  # before the server's: browsers are let go first
        self._watchdog.start()
        self._running.callback(self._watchdog.stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()
