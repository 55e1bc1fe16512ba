"""Where reading begins and ends, as the command line says it.

Enters: the text of `--since` and `--until`. Leaves: a Bound of `transport.kafka_range`. Must not know: topics, clients.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from streamer.errors import UsageError

if TYPE_CHECKING:
    from streamer.transport.kafka_range import Bound

BOUND_HELP = "2h ago (s, m, h, d), an ISO time (local unless it says its zone), offset:N, beginning or end"

_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_bound(text: str, flag: str, *, now_ms: int) -> Bound:
    """`2h`, `2026-05-01T12:00`, `offset:1200`, `beginning`, `end`; raises UsageError that names `flag`."""
    from streamer.transport.kafka_range import AtOffset, AtTime, Edge

    if text in ("beginning", "end"):
        return Edge[text.upper()]
    if offset := re.fullmatch(r"offset:([0-9]{1,18})", text):
        return AtOffset(int(offset[1]))
    if ago := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
        return AtTime(max(0, now_ms - int(ago[1]) * _UNIT_MS[ago[2]]))
    try:
        unix_ms = round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        unix_ms = -1
    if unix_ms < 0:
        raise UsageError(f"{flag} {text[:40]!r}: write {BOUND_HELP}")
    return AtTime(unix_ms)
