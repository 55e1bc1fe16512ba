"""Calls of the Kafka client that may take long, on a thread of their own, looked at from outside.

Enters: work. Leaves: whether it is done, what it raised, or that it hangs. Must not know: what the work is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TypeAlias


class Progress:
    """The client's call that work is in, and since when; None between calls."""

    calling: tuple[str, float] | None = None


class Hands:
    """A thread that does one thing after the other. A daemon: a client that hangs must not keep the process alive."""

    def __init__(self) -> None:
        self._todo: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        Thread(target=self._work, name="transaction", daemon=True).start()

    def do(self, act: Callable[[], None]) -> None:
        """Do this when all before it is done; it must not raise."""
        self._todo.put(act)

    def end(self) -> None:
        """Let the thread end when what it was given is done."""
        self._todo.put(None)

    def _work(self) -> None:
        while (act := self._todo.get()) is not None:
            act()


Act: TypeAlias = Callable[[Progress], None]
Instead: TypeAlias = Callable[[Progress, Hands, str], None]


class Call:
    """Work under way. Implements `transport.base.Settling`.

    Where the client hangs in one call for longer than `patience_s`, the thread is left behind: `instead` is done in
    its place by new hands, and is told them and the name of the call.
    """

    def __init__(self, act: Act, *, hands: Hands, patience_s: float, instead: Instead) -> None:
        self._patience_s = patience_s
        self._instead = instead
        self._start(act, hands)

    def _start(self, act: Act, hands: Hands) -> None:
        progress, outcome = Progress(), Future[None]()
        self.progress, self._outcome = progress, outcome
        hands.do(lambda: _run(act, progress, outcome))

    def wait(self, timeout_s: float) -> bool:
        """Whether it is done, after at most `timeout_s`; raises what the work raised."""
        try:
            self._outcome.result(timeout_s)
        except TimeoutError:
            calling = self.progress.calling
            if calling is not None and time.monotonic() - calling[1] > self._patience_s:
                hands = Hands()
                self._start(lambda progress: self._instead(progress, hands, calling[0]), hands)
            return False
        return True


def _run(act: Act, progress: Progress, outcome: Future[None]) -> None:
    try:
        act(progress)
    except Exception as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(None)
