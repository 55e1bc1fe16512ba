"""What the network test says when it cannot have its proxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from load_tests.faults.toxiproxy import toxiproxy
from load_tests.harness import LoadTestError


def test_missing_go_is_told_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(LoadTestError, match="go is missing; install Go"),
        toxiproxy(tmp_path / "log", tools=tmp_path / "tools"),
    ):
        pass


def test_a_server_that_does_not_start_is_told(tmp_path: Path) -> None:
    server = tmp_path / "server"
    server.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    server.chmod(0o755)
    with pytest.raises(LoadTestError, match="toxiproxy does not answer"), toxiproxy(tmp_path / "log", tools=tmp_path):
        pass
