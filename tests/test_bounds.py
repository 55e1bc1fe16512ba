"""Bounds as the command line gives them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from streamer.bounds import parse_bound
from streamer.errors import UsageError
from streamer.transport.kafka_range import AtOffset, AtTime, Bound, Edge

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("beginning", Edge.BEGINNING),
        ("end", Edge.END),
        ("offset:0", AtOffset(0)),
        ("offset:1200", AtOffset(1200)),
        ("90s", AtTime(NOON_MS - 90_000)),
        ("2h", AtTime(NOON_MS - 7_200_000)),
        ("3d", AtTime(NOON_MS - 3 * 86_400_000)),
        ("999999999d", AtTime(0)),
        ("2026-05-01T12:00:00Z", AtTime(NOON_MS)),
        ("2026-05-01T14:00:00.250+02:00", AtTime(NOON_MS + 250)),
        ("2026-05-01", AtTime(int(datetime(2026, 5, 1).timestamp() * 1000))),
    ],
)
def test_forms(text: str, bound: Bound) -> None:
    assert parse_bound(text, "--since", now_ms=NOON_MS) == bound


@pytest.mark.parametrize(
    "text",
    ["", "2", "2 h", "-2h", "2w", "yesterday", "offset:", "offset:-1", "offset:1e3", "1815-12-10", "9" * 500 + "h"],
)
def test_anything_else_is_told_with_its_flag(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--until '.*': write 2h ago .* offset:N") as told:
        parse_bound(text, "--until", now_ms=NOON_MS)
    assert len(str(told.value)) < 200
