"""`streamer dlq` without a broker: its help, and what it says when none can be reached."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from streamer.__main__ import main

Dlq = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dlq(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Dlq:
    """Runs `streamer dlq ARGUMENTS`; returns exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamer", "dlq", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capfd.readouterr()
        code = exit_.value.code
        return (code if isinstance(code, int) else 1), out, err

    return run


def settings(folder: Path, bootstrap_servers: str) -> str:
    path = folder / "streamer.yaml"
    content = {
        "kafka": {"bootstrap_servers": bootstrap_servers},
        "label_sets": {"a": {"facets": {"mood": {"labels": ["bad", "good"]}}}},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "a"}],
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_help(dlq: Dlq) -> None:
    for verb in ("list", "explain", "redrive"):
        code, out, err = dlq(verb, "--help")
        assert (code, err) == (0, "")
        assert verb in out
    for promise in ("redrive-of", "--again", "streamer-redrive-TOPIC.N", "offsets.retention.minutes", "Exit code 0"):
        assert promise in out
    assert dlq()[0] == 2


def test_the_embedded_broker_is_gone(dlq: Dlq, tmp_path: Path) -> None:
    code, _, err = dlq("list", "-c", settings(tmp_path, "embedded"))
    assert code == 2
    assert "the embedded broker is gone with the process that ran it" in err
    assert err.count("\n") == 1


def test_a_broker_out_of_reach_is_one_line(dlq: Dlq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.dlq.reading.REACH_TIMEOUT_S", 1.0)
    code, _, err = dlq("list", "--bootstrap", "127.0.0.1:1", "--topic", "dead")
    assert code == 2
    assert "cannot reach Kafka at 127.0.0.1:1" in err
    assert err.count("\n") == 1
