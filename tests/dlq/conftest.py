"""Dead letters to test with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamer.dlq.letters import DeadLetter
from streamer.records import Position


@pytest.fixture
def letter() -> Callable[..., DeadLetter]:
    """A whole dead letter of in-2-7 at dead-0-OFFSET; name what shall be different."""

    def make(offset: int = 5, **changed: Any) -> DeadLetter:
        usual: dict[str, Any] = {
            "at": Position("dead", 0, offset),
            "written_ms": 1_700_000_000_000,
            "code": "not_json",
            "message": "not JSON: unexpected end",
            "source": Position("in", 2, 7),
            "source_ms": 1_600_000_000_000,
            "label_set": "tickets",
            "key": b"key",
            "value": b"{",
            "headers": (("trace", b"1"),),
            "cuts": (),
            "redrives": 0,
        }
        return DeadLetter(**{**usual, **changed})

    return make
