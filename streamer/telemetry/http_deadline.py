"""Connections that ask nothing are closed: uvicorn has no deadline for the head of a request.

Enters: connections. Leaves: those that make a request in good time. Otherwise whoever reaches the port could hold all
of its connections for ever, by sending a byte now and then, and health checks would be answered 503. Must not know:
what is asked for.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


def asking_within(head_s: float) -> type[H11Protocol]:
    """uvicorn's protocol, for connections that are closed when no whole request head has come for `head_s` seconds,
    since they were made or since the last answer ended. An answer under way takes as long as it takes."""

    class AskingInTime(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait_for_request()

        def on_response_complete(self) -> None:
            self._wait_for_request()
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            super().connection_lost(exc)

        def _wait_for_request(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self.loop.call_later(head_s, self._close_if_idle)

        def _close_if_idle(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return AskingInTime
