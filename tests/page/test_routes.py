"""The page over HTTP: who gets it, what protects it, and that no browser holds up anything."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import orjson
import pytest

from streamer.page.live import PageOptions
from streamer.page.routes import MOST_BROWSERS
from tests.page.road import LiveRoad, live_road, wait_for

TOKEN = "of-these-tests-alone"  # noqa: S105 - keeps nobody out
HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture(scope="module")
def road() -> Iterator[LiveRoad]:
    with live_road(PageOptions(show_text=True, token=None)) as road:
        yield road


@pytest.fixture(scope="module")
def guarded() -> Iterator[LiveRoad]:
    with live_road(PageOptions(show_text=True, token=TOKEN)) as road:
        yield road


class Client:
    """A connection that is closed at the end; its answers are read as far as a test wants."""

    def __init__(self, road: LiveRoad) -> None:
        self.connection = http.client.HTTPConnection(str(urlsplit(road.address).netloc), timeout=10)

    def get(self, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> http.client.HTTPResponse:
        self.connection.request(method, path, headers=headers or {})
        return self.connection.getresponse()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def ask(road: LiveRoad, path: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    """An answer, read whole."""
    with Client(road) as client:
        answer = client.get(path, headers)
        answer.read()
        return answer


def event(answer: http.client.HTTPResponse) -> dict[str, object]:
    """The next event of a stream."""
    line = answer.readline()
    assert answer.readline() == b"\n"
    found: dict[str, object] = orjson.loads(line.removeprefix(b"data: "))
    return found


def test_browsers_get_the_page_and_programs_the_index(road: LiveRoad) -> None:
    with Client(road) as client:
        page = client.get("/", HTML)
        assert page.headers["Content-Type"].startswith("text/html")
        assert page.headers["Vary"] == "Accept"
        assert b"<title>streamer</title>" in page.read()
        index = client.get("/", {"Accept": "*/*"})
        assert orjson.loads(index.read())["endpoints"] == ["/healthz", "/readyz", "/metrics"]


@pytest.mark.parametrize("name", ["page.css", "page.js", "dom.js", "theme.js", "icon.svg"])
def test_what_protects_it_stands_on_everything(road: LiveRoad, name: str) -> None:
    for path, headers in (("/", HTML), (f"/page/{name}", {})):
        found = ask(road, path, headers)
        assert found.status == 200
        policy = found.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'" in policy
        assert "unsafe" not in policy
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert found.headers["Referrer-Policy"] == "no-referrer"
        assert found.headers["X-Frame-Options"] == "DENY"
        assert found.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/page/page.html", "/page/../routes.py", "/page/%2e%2e/routes.py", "/page/nothing"])
def test_only_its_files_are_served(road: LiveRoad, path: str) -> None:
    assert ask(road, path).status == 404


def test_events_come_about_once_a_second(road: LiveRoad) -> None:
    road.send(["first"])
    road.settle()
    with Client(road) as client:
        answer = client.get("/page/events")
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        first = event(answer)
        began_s = time.monotonic()
        second = event(answer)
        third = event(answer)
        assert 0.7 < time.monotonic() - began_s < 15.0
    assert [one["whole"] for one in (first, second, third)] == [True, False, False]
    with Client(road) as client:
        head = client.get("/page/events", method="HEAD")
        assert (head.status, head.read()) == (200, b"")


def test_another_name_for_this_machine_is_refused(road: LiveRoad) -> None:
    """A web site whose name points here must not read the page."""
    port = urlsplit(road.address).port
    for name in ("localhost", "127.0.0.1", "[::1]"):
        assert ask(road, "/", {**HTML, "Host": f"{name}:{port}"}).status == 200
    for path in ("/", "/page/events"):
        assert ask(road, path, {**HTML, "Host": f"attacker.example:{port}"}).status == 403


def test_seats_are_bounded_and_given_back(road: LiveRoad) -> None:
    with ExitStack() as open_:
        clients = [open_.enter_context(Client(road)) for _ in range(MOST_BROWSERS)]
        for client in clients:
            event(client.get("/page/events"))
        refused = ask(road, "/page/events")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
        assert ask(road, "/healthz").status == 200
    wait_for(lambda: seat_is_free(road))


def seat_is_free(road: LiveRoad) -> bool:
    with Client(road) as client:
        return client.get("/page/events").status == 200


@pytest.mark.parametrize("offered", [f"Bearer {TOKEN}", f"bearer  {TOKEN}"])
def test_a_token_may_stand_in_a_header(guarded: LiveRoad, offered: str) -> None:
    with Client(guarded) as client:
        assert event(client.get("/page/events", {"Authorization": offered}))["whole"]
    assert ask(guarded, "/", {**HTML, "Authorization": offered}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer t\u00f6ken"},
        {"Cookie": f"streamer_page={TOKEN}"},
        {"Cookie": "streamer_page="},
    ],
)
def test_without_the_token_there_is_nothing_to_see(guarded: LiveRoad, headers: dict[str, str]) -> None:
    for path, more in (("/page/events", {}), ("/", HTML)):
        with Client(guarded) as client:
            answer = client.get(path, {**more, **headers})
            assert answer.status == 401
            assert TOKEN.encode() not in answer.read()
    for path in ("/healthz", "/metrics"):  # probes and scrapes go on
        assert ask(guarded, path).status in (200, 503)


def test_a_token_is_exchanged_for_a_cookie_once(guarded: LiveRoad) -> None:
    given = ask(guarded, f"/?token={TOKEN}", HTML)
    assert (given.status, given.headers["Location"]) == (303, "./")
    cookie = given.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    kept = {"Cookie": cookie.partition(";")[0]}
    assert ask(guarded, "/", {**HTML, **kept}).status == 200
    with Client(guarded) as client:
        assert event(client.get("/page/events", kept))["whole"]
    for wrong in ("/?token=wrong", "/?token=", "/?token=t%C3%B6ken"):
        refused = ask(guarded, wrong, HTML)
        assert refused.status == 401
        assert "Set-Cookie" not in refused.headers


def test_a_browser_that_does_not_read_holds_up_nobody(road: LiveRoad) -> None:
    """Its socket is full after a while; the loop labels on, others are served, and nothing piles up for it."""
    address = urlsplit(road.address)
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect((address.hostname, address.port))
        stuck.sendall(f"GET /page/events HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        with Client(road) as client:
            answer = client.get("/page/events")
            for _ in range(3):
                event(answer)
                road.send([f"text {i}" for i in range(500)])
            road.settle()
        assert ask(road, "/healthz").status == 200


def test_the_end_is_quick_with_a_browser_there() -> None:
    before = set(threading.enumerate())
    with live_road(PageOptions(show_text=False, token=None)) as road, Client(road) as client:
        answer = client.get("/page/events")
        event(answer)
        began_s = time.monotonic()
        road.end()
        assert time.monotonic() - began_s < 5.0
        while answer.readline():  # ends in good order
            pass
    assert set(threading.enumerate()) <= before
