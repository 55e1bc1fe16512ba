"""Without an extra, a command that needs it says so in one line, before it reads anything."""

from __future__ import annotations

import sys

import pytest

from tests.commands import Command


@pytest.mark.parametrize("package", ["sklearn", "scipy"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "none.jsonl"),
        ("calibrate", "none.jsonl", "-c", "none.yaml", "--out", "none.json"),
        ("labels", "suggest", "none.jsonl"),
    ],
)
def test_a_command_names_the_extra_it_needs(
    arguments: tuple[str, ...], package: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    verb = "labels suggest" if arguments[0] == "labels" else arguments[0]
    assert err == f"error: {verb} needs scikit-learn; pip install 'streamer[tuning]'\n"
