"""Who may look at the live page.

Enters: requests. Leaves: whether they are answered. Must not know: what the page shows.

With a token, a request must bear it (`Authorization: Bearer ...`) or a cookie that was given for it once. The cookie is
no copy of the token but a keyed digest: it says that its owner knew the token, and goes with it. Without a token, on a
loopback address, only a request that was meant for this machine is answered: a web site whose name was made to point to
127.0.0.1 (DNS rebinding) could read the page otherwise, since to a browser it would be that site's own.
"""

from __future__ import annotations

import hmac

from starlette.requests import Request
from starlette.responses import Response

from streamer.loopback import is_loopback

COOKIE = "streamer_page"
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Access:
    """`token` None: everyone who reaches `host`, the address listened on, may look."""

    def __init__(self, *, token: str | None, host: str) -> None:
        self._token = None if token is None else token.encode()
        self._cookie = None if token is None else hmac.digest(token.encode(), b"streamer live page", "sha256").hex()
        self._names = LOCAL_NAMES | {host} if is_loopback(host) else None

    @property
    def by_token(self) -> bool:
        return self._token is not None

    def allows(self, request: Request) -> bool:
        """Whether this request may see what the page shows."""
        if self._token is None or self._cookie is None:
            return self._names is None or _host_of(request) in self._names
        kind, _, offered = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.knows(offered.strip()):
            return True
        return _same(request.cookies.get(COOKIE, ""), self._cookie)

    def knows(self, offered: str) -> bool:
        """Whether this is the token."""
        return self._token is not None and hmac.compare_digest(offered.encode(), self._token)

    def remember(self, response: Response) -> None:
        """Let a browser that knew the token come back without it."""
        response.set_cookie(COOKIE, str(self._cookie), httponly=True, samesite="strict", path="/")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _host_of(request: Request) -> str:
    """The host that the request names, without its port."""
    host = request.headers.get("host", "")
    return host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
