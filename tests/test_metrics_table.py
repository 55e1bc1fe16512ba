"""The committed table of metrics is what the code exports."""

from __future__ import annotations

from pathlib import Path

from streamer.metrics_table import metrics_table

TABLE = Path(__file__).parents[1] / "deploy" / "metrics.md"


def test_the_committed_table_is_current() -> None:
    assert TABLE.read_text(encoding="utf-8") == metrics_table(), "run `make schemas`"
