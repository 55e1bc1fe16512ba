"""All telemetry of one process: metrics, health, logs, the watchdog, and the port that shows them.

Enters: how to listen and when to call something stuck. Leaves: an Observer for the loop, while it is entered. Must not
know: the loop, settings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from types import TracebackType

from streamer.drift.report import StreamDrift
from streamer.engine.base import ModelInfo
from streamer.facets import LabelSet
from streamer.observe import Observer, Observers
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
    whether there is one. Entering raises UsageError when the address cannot be had. See Health for the two limits.
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
        self._server = None
        if address is not None:
            host, port = address
            self._server = TelemetryServer(
                host=host, port=port, health=health, metrics=self._metrics, drift_json=drift_json
            )
        self.observer: Observer = Observers(self._metrics, health, LogObserver(clock=time.monotonic))
        self._running = ExitStack()

    def serving(self, model: ModelInfo, label_sets: Collection[LabelSet]) -> None:
        """What the loop begins with; later label sets come by `Observer.reloaded`."""
        self._metrics.serving(model, label_sets)

    def __enter__(self) -> Telemetry:
        if self._server is not None:
            self._server.start()
            self._running.callback(self._server.stop)
        self._watchdog.start()
        self._running.callback(self._watchdog.stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()
