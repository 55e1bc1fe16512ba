"""Server-sent events: what is new on the page, once a second, for as long as a browser listens.

Enters: a LivePage. Leaves: a response without an end. Must not know: what messages hold, who may look.

A browser that reads slowly is sent the latest message when it is ready for one, and nothing is kept for it meanwhile;
one that reads nothing at all loses its seat.
"""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from streamer.page.live import LivePage, Since

LOOK_S = 0.25


class Seats:
    """How many browsers listen at the same time; used by one thread."""

    def __init__(self, *, most: int) -> None:
        self._left = most

    def take(self) -> bool:
        """Whether there was one left."""
        if self._left <= 0:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        self._left += 1


class EventStream(Response):
    """Sends messages until the browser goes or the page is stopped. It owns a seat, and gives it back when it ends, or
    when the browser has not taken a message for `send_s` seconds."""

    media_type = "text/event-stream"

    def __init__(self, live: LivePage, *, seats: Seats, send_s: float) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._live = live
        self._seats = seats
        self._send_s = send_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_gone(receive))
        seated = True
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                await self._tell(gone, send)
            except TimeoutError:  # it does not read; its connection is kept until it goes, but not its seat
                self._seats.give_back()
                seated = False
                while self._live.open and not gone.done():
                    await asyncio.wait({gone}, timeout=LOOK_S)
            else:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            if seated:
                self._seats.give_back()

    async def _tell(self, gone: asyncio.Task[None], send: Send) -> None:
        since = Since()
        while self._live.open and not gone.done():
            message, since = self._live.message(since)
            if message is not None:
                async with asyncio.timeout(self._send_s):
                    body = b"data: " + message + b"\n\n"
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.wait({gone}, timeout=LOOK_S)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
