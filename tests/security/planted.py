"""A secret to plant, and the search for it."""

from __future__ import annotations

import base64
import secrets
import urllib.parse
from collections.abc import Mapping

# as a person would set one: an unquoted YAML scalar, a part of a header, long enough for page.token
SECRET = "hunter2" + secrets.token_hex(12)


def spellings(secret: str) -> set[str]:
    """The ways in which a secret could stand in a text."""
    return {secret, urllib.parse.quote(secret), base64.b64encode(secret.encode()).decode().rstrip("="), secret[::-1]}


def assert_absent(secret: str, seen: Mapping[str, str]) -> None:
    """Fails with the place and what stands around it."""
    for where, text in seen.items():
        for spelling in spellings(secret):
            at = text.find(spelling)
            assert at < 0, f"{where}: ...{text[max(0, at - 200) : at + 100]}"
