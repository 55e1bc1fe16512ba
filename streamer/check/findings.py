"""What a check found: good or not, what, where, what to do.

Enters: words. Leaves: Findings. Must not know: what is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """error: `streamer run` would fail or lose time for good; warning: it would run, with a risk."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """`where` is a setting or a thing of the cluster; `advice` says what to do, empty where nothing is."""

    level: Level
    where: str
    what: str
    advice: str


def ok(where: str, what: str) -> Finding:
    return Finding(Level.OK, where, what, "")


def warning(where: str, what: str, advice: str) -> Finding:
    return Finding(Level.WARNING, where, what, advice)


def error(where: str, what: str, advice: str) -> Finding:
    return Finding(Level.ERROR, where, what, advice)


def told_by(where: str, failure: Exception) -> Finding:
    """An error line of ours as a finding: what follows its first semicolon is the advice."""
    what, _, advice = " ".join(str(failure).split()).partition("; ")
    return error(where, what, advice)
