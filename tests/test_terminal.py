"""A progress bar on a terminal, and nothing elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from streamer.terminal import progress_bar


def shown(total: int | None, *, terminal: bool) -> str:
    file = io.StringIO()
    with progress_bar(Console(file=file, force_terminal=terminal, width=100), "working", total) as advance:
        for _ in range(100):
            advance(15)
    return file.getvalue()


@pytest.mark.parametrize("refresh_s", [0.0, 60.0])
@pytest.mark.parametrize(("total", "end"), [(1500, "1,500 of 1,500 rows"), (None, "1,500 rows")])
def test_the_last_state_counts_every_row(
    total: int | None, end: str, refresh_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.terminal.REFRESH_S", refresh_s)
    seen = shown(total, terminal=True)
    assert "working" in seen
    assert end in seen


def test_nothing_is_shown_elsewhere() -> None:
    assert not shown(10, terminal=False).strip()
