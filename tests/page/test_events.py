"""A stream of events to browsers that take them, go away, or take nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import pytest
from starlette.types import Message

from streamer.page.events import EventStream, Seats
from streamer.page.live import LivePage

PATIENCE_S = 20.0


@pytest.fixture
def live() -> LivePage:
    live = LivePage(
        show_text=False,
        streams=[],
        values=lambda names: {},
        alive=list,
        ready=list,
        drift=None,
        clock=lambda: 0.0,
        wall_clock=lambda: 0.0,
    )
    live.start()
    return live


def run(
    live: LivePage,
    seats: Seats,
    *,
    send: Callable[[Message], Awaitable[None]],
    receive: Callable[[], Awaitable[Message]],
    meanwhile: Callable[[], Awaitable[None]],
) -> None:
    """One stream to its end, with a seat of its own."""

    async def both() -> None:
        stream = EventStream(live, seats=seats, send_s=0.05)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(stream({"type": "http"}, receive, send), meanwhile())

    assert seats.take()
    asyncio.run(both())
    live.stop()


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def test_it_ends_in_good_order_when_the_page_is_stopped(live: LivePage) -> None:
    sent: list[Message] = []
    seats = Seats(most=1)

    async def send(message: Message) -> None:
        sent.append(message)

    async def stop() -> None:
        while len(sent) < 3:
            await asyncio.sleep(0.01)
        live.stop()

    run(live, seats, send=send, receive=never, meanwhile=stop)
    assert sent[0]["status"] == 200
    assert orjson.loads(sent[1]["body"].removeprefix(b"data: "))["whole"]
    assert not orjson.loads(sent[2]["body"].removeprefix(b"data: "))["whole"]
    assert (sent[-1]["body"], sent[-1]["more_body"]) == (b"", False)
    assert seats.take()


def test_a_browser_that_goes_gives_its_seat_back(live: LivePage) -> None:
    seats = Seats(most=1)
    gone = asyncio.Event()

    async def send(message: Message) -> None:
        gone.set()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def nothing() -> None: ...

    run(live, seats, send=send, receive=receive, meanwhile=nothing)
    assert seats.take()


def test_a_browser_that_takes_nothing_loses_its_seat_and_nothing_piles_up(live: LivePage) -> None:
    seats = Seats(most=1)
    asked: list[Message] = []

    async def send(message: Message) -> None:
        asked.append(message)
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()  # as when its socket is full

    async def watch() -> None:
        while not seats.take():
            await asyncio.sleep(0.01)
        seats.give_back()
        await asyncio.sleep(0.6)  # two looks later
        live.stop()

    run(live, seats, send=send, receive=never, meanwhile=watch)
    assert len(asked) == 2  # its head, and one message
    assert seats.take()
    assert not seats.take()  # it was given back once
