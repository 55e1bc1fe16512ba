"""Settings of the HTTP port and of the live page on it.

Enters: values of a settings file. Leaves: frozen parts of Settings. Must not know: HTTP, what the page shows.
"""

from __future__ import annotations

from pydantic import Field

from streamer.errors import UsageError
from streamer.loopback import is_loopback
from streamer.settings_parts import Part, SecretRef

LEAST_TOKEN_CHARACTERS = 16


class HttpSettings(Part):
    """Health and metrics port: /healthz, /readyz, /metrics, and the live page at /."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = Field(9464, ge=0, le=65535, description="0: any free port")
    stuck_after_s: float = Field(30.0, gt=0, description="unhealthy when the loop has not gone round for so long")
    engine_stuck_after_s: float = Field(120.0, gt=0, description="unhealthy when a window takes longer")


class PageSettings(Part):
    """The live page, at / of the http port. It shows counts, labels and scores; texts only where that is asked for."""

    enabled: bool = True
    show_text: bool = Field(False, description="show the beginning of texts, and messages that may quote them")
    token: SecretRef | None = Field(
        None, description="what a browser must know: http://HOST:PORT/?token=..., or Authorization: Bearer ..."
    )

    def check(self, http: HttpSettings) -> None:
        """Raises ValueError where anybody could read texts."""
        shows = http.enabled and self.enabled and self.show_text
        if shows and self.token is None and not is_loopback(http.host):
            raise ValueError(
                f"page.show_text: everybody who reaches {http.host} could read the texts; set page.token, or "
                "http.host: 127.0.0.1"
            )

    def read_token(self) -> str | None:
        """The token, None for none; raises UsageError where it cannot be read or keeps nobody out."""
        if self.token is None:
            return None
        token = self.token.read("page.token")
        if len(token) < LEAST_TOKEN_CHARACTERS:
            raise UsageError(
                f"page.token: shorter than {LEAST_TOKEN_CHARACTERS} characters, which can be guessed; "
                "make one with: openssl rand -hex 16"
            )
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise UsageError("page.token: use letters, digits and signs of ASCII, without spaces")
        return token
