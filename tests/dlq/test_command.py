"""`streamer dlq` without a broker: its help, and what it says when none can be reached."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.commands import Command


@pytest.fixture
def dlq(command: Command) -> Command:
    """Runs `streamer dlq ARGUMENTS`."""
    return partial(command, "dlq")


def settings(folder: Path, bootstrap_servers: str) -> str:
    path = folder / "streamer.yaml"
    content = {
        "kafka": {"bootstrap_servers": bootstrap_servers},
        "label_sets": {"a": {"facets": {"mood": {"labels": ["bad", "good"]}}}},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "a"}],
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_help(dlq: Command) -> None:
    for verb in ("list", "explain", "redrive"):
        code, out, err = dlq(verb, "--help")
        assert (code, err) == (0, "")
        assert verb in out
    for promise in ("redrive-of", "--again", "streamer-redrive-TOPIC.N", "offsets.retention.minutes", "Exit code 0"):
        assert promise in out
    assert dlq()[0] == 2


def test_the_embedded_broker_is_gone(dlq: Command, tmp_path: Path) -> None:
    code, _, err = dlq("list", "-c", settings(tmp_path, "embedded"))
    assert code == 2
    assert "the embedded broker is gone with the process that ran it" in err
    assert err.count("\n") == 1


def test_a_broker_out_of_reach_is_one_line(dlq: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.dlq.reading.REACH_TIMEOUT_S", 1.0)
    code, _, err = dlq("list", "--bootstrap", "127.0.0.1:1", "--topic", "dead")
    assert code == 2
    assert "cannot reach Kafka at 127.0.0.1:1" in err
    assert err.count("\n") == 1
