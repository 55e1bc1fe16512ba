"""The live page over HTTP: the page at `/` for browsers, its files, its events.

Enters: GET requests. Leaves: HTML, files of this package, server-sent events. Nothing can be changed from here, no
request body is read, nothing is loaded from elsewhere. Must not know: the loop, settings.
"""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from streamer.page.access import Access
from streamer.page.events import EventStream, Seats
from streamer.page.live import LivePage

MOST_BROWSERS = 16
SEND_S = 15.0
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


class PageRoutes:
    """Answers for one LivePage."""

    def __init__(self, live: LivePage, *, access: Access) -> None:
        self._live = live
        self._access = access
        self._seats = Seats(most=MOST_BROWSERS)
        found = {one.name: one.read_bytes() for one in (files("streamer.page") / "assets").iterdir()}
        self._page, self._sign_in = found.pop("page.html"), found.pop("sign-in.html")
        self._assets = found
        self.routes = [
            Route("/page/events", self.events, methods=["GET"]),
            Route("/page/{name}", self.asset, methods=["GET"]),
        ]

    def wanted(self, request: Request) -> bool:
        """Whether `/` is asked for by a browser, which takes HTML, or by a program."""
        return "text/html" in request.headers.get("accept", "")

    async def front(self, request: Request) -> Response:
        """The page, or where its token is to be given."""
        offered = request.query_params.get("token")
        if offered is not None and self._access.by_token:
            if not self._access.knows(offered):
                return self._html(self._sign_in, status=401)
            response: Response = RedirectResponse("./", status_code=303, headers=HEADERS)  # leaves the token behind
            self._access.remember(response)
            return response
        if self._access.allows(request):
            return self._html(self._page, status=200)
        return self._html(self._sign_in, status=401) if self._access.by_token else _misdirected()

    async def asset(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        body = self._assets.get(name)
        if body is None:
            return PlainTextResponse("not found", status_code=404)
        media_type = MEDIA_TYPES[name[name.rindex(".") :]]
        return Response(body, media_type=media_type, headers=HEADERS)

    async def events(self, request: Request) -> Response:
        if not self._access.allows(request):
            return PlainTextResponse("token needed", status_code=401) if self._access.by_token else _misdirected()
        if request.method == "HEAD":
            return Response(media_type=EventStream.media_type)
        if not self._seats.take():
            return PlainTextResponse(
                f"{MOST_BROWSERS} browsers look already", status_code=503, headers={"Retry-After": "10"}
            )
        return EventStream(self._live, seats=self._seats, send_s=SEND_S)

    def _html(self, body: bytes, *, status: int) -> Response:
        return Response(body, status_code=status, media_type="text/html", headers={**HEADERS, "Vary": "Accept"})


def _misdirected() -> Response:
    """The request names another host than this machine."""
    return PlainTextResponse(
        "The live page answers to localhost and 127.0.0.1 alone; set page.token to reach it by another name.",
        status_code=403,
    )
