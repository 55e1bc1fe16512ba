"""How long work is asked to end. Enters: SIGINT, SIGTERM. Leaves: an event. Must not know: what the work is."""

from __future__ import annotations

import signal
from threading import Event


def stop_on_signals() -> Event:
    """An event set by the first SIGINT or SIGTERM; a second one ends the process at once."""
    stop = Event()

    def handle(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return stop
