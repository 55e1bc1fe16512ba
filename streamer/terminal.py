"""What a terminal is shown: progress of long work, and somebody else's text without its control characters.

Enters: a rich Console, text. Leaves: a progress bar with rows and rows per second, text that moves no cursor. Must not
know: what the work is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeAlias

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

Advance: TypeAlias = Callable[[int], None]

REFRESH_S = 0.1


class _Rows(ProgressColumn):
    """Rows done, rows in all where that is known, rows per second."""

    def render(self, task: Task) -> Text:
        done = f"{int(task.completed):,}" + ("" if task.total is None else f" of {int(task.total):,}")
        speed = task.finished_speed or task.speed
        return Text(f"{done} rows" + ("" if speed is None else f", {speed:,.0f} rows/s"))


@contextmanager
def progress_bar(console: Console, doing: str, total: int | None) -> Iterator[Advance]:
    """A bar for as long as the context lasts, on a terminal only; call what it yields with the rows just done.

    `total` None: how much there is to do is unknown, and the bar pulses.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Rows(Column(no_wrap=True)),
        TimeRemainingColumn(),
    )
    waiting, told_s = 0, monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=total)

        def advance(rows: int) -> None:
            nonlocal waiting, told_s
            waiting += rows
            now_s = monotonic()
            if now_s - told_s >= REFRESH_S:  # telling the bar of every row would cost more than the row
                progress.advance(task, waiting)
                waiting, told_s = 0, now_s

        yield advance
        progress.advance(task, waiting)


def steps_progress(console: Console) -> Progress:
    """Bars of work that is counted in steps, with the time it took and will take; on a terminal only."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def printable(text: str, limit: int) -> str:
    """At most `limit` characters and a sign that there are more; what would move a cursor, colour or turn the
    direction of writing stands as its escape."""
    shown = "".join(one if one.isprintable() else _escape(one) for one in text[:limit])
    return shown + ("…" if len(text) > limit else "")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode() if character.isascii() else f"\\u{ord(character):04x}"
