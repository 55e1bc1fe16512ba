"""`streamer replay`: what is wrong is told in one line, before anything is read."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.commands import Command


@pytest.fixture
def replay(tmp_path: Path, command: Command) -> Command:
    """Runs `streamer replay` in this process, on a cluster that is not there; returns exit code and both outputs."""
    path = tmp_path / "streamer.yaml"
    content = {
        "kafka": {"bootstrap_servers": "127.0.0.1:1", "properties": {"log_level": 0}},
        "model": {"name": "fake"},
        "label_sets": {"a": {"facets": {"mood": {"labels": ["bad", "good"]}}}},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "a"}],
    }
    path.write_text(yaml.safe_dump(content))

    return partial(command, "replay", "-c", str(path), "--topic", "in")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--since", "2h"), "Missing option '--to'"),
        (("--to", "side"), "Missing option '--since'"),
        (("--to", "side", "--since", "yesterday"), "--since 'yesterday': write 2h ago"),
        (("--to", "side", "--since", "2h", "--until", "?"), "--until '?'"),
        (("--to", "out", "--since", "2h"), "--to 'out' is in use (output of 'in')"),
        (("--to", "side", "--since", "2h", "--group", "streamer"), "--group 'streamer' is the group of the settings"),
        (("--to", "side", "--since", "2h", "--rate", "0"), "--rate"),
        (("--to", "side", "--since", "2h", "--report", "/nowhere/report.json"), "--report takes a file"),
    ],
)
def test_wrong_usage_is_told_in_one_line(replay: Command, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = replay(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_cluster_that_is_away_is_told_in_one_line(replay: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.replay.plan.REACH_TIMEOUT_S", 0.5)
    code, out, err = replay("--to", "side", "--since", "2h")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "cannot reach Kafka at 127.0.0.1:1" in err


def test_help_says_how_to_go_on(replay: Command) -> None:
    code, out, err = replay("--help")
    assert (code, err) == (0, "")
    assert "The same command" in out
