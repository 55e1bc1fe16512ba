"""`streamer evaluate` as typed: your records, data sets, and options that do not go together."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.commands import Command


@pytest.fixture
def command(command: Command) -> Command:
    """Runs `streamer evaluate ARGUMENTS`."""
    return partial(command, "evaluate")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "streamer.yaml"
    content = {
        "kafka": {"bootstrap_servers": "embedded"},
        "model": {"name": "fake"},
        "label_sets": {
            "a": {"facets": {"mood": {"labels": ["bad", "good"]}}},
            "b": {"facets": {"other": {"labels": ["x", "y"]}}},
        },
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "a"}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "labelled.csv"
    path.write_text("body,mood,split\n" + "".join(f"text {i},{'good' if i % 2 else 'bad'},test\n" for i in range(30)))
    return path


def test_records(command: Command, config: Path, data: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    code, out, err = command(
        str(data), "-c", str(config), "--label-set", "a", "--text", "body", "--split", "test", "--seed", "7",
        "--against", str(config), "--report", str(report), "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    result = json.loads(out.splitlines()[-1])
    assert (result["records"], result["seed"], result["facets"][0]["facet"]) == (30, 7, "mood")
    assert result["comparison"]["facets"][0]["p"] == 1.0
    assert "accuracy: no difference" in out
    assert "30 records say little" in out
    assert f"written: {report / 'report.md'}" in out
    stored = json.loads((report / "result.json").read_text())
    assert stored == result
    assert command(str(data), "-c", str(config), "--label-set", "a", "--text", "body", "--report", str(report))[0] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seed", "0"], "--seed is about a label set of a settings file; give the file with -c"),
        (["--against", "x.yaml"], "--against is about a label set"),
        (["--against-model", "fake"], "--against-model is about a label set"),
        (["--report", "x"], "--report is about a label set"),
        (["--label-set", "a"], "--label-set is about a label set"),
        (["--text", "body"], "--text is about a label set"),
        (["-c", "CONFIG"], "several label sets (a, b); say which one with --label-set"),
        (["-c", "CONFIG", "--label-set", "a"], "row 1: no column 'text'"),
        (["-c", "CONFIG", "--label-set", "b", "--text", "body"], "none named as a facet of 'b' (other)"),
        (["-c", "CONFIG", "--leave-out", "x"], "--leave-out is for data sets"),
        (["-c", "CONFIG", "--max-text-tokens", "9"], "--max-text-tokens is for data sets"),
        (["-c", "CONFIG", "--label-set", "a", "--text", "body", "--device", "abacus", "--model", "bundled"], "abacus"),
        (["-c", "CONFIG", "--label-set", "a", "--text", "body", "--dtype", "int3"], "dtype"),
    ],
)
def test_wrong_use_is_one_line(command: Command, config: Path, data: Path, arguments: list[str], says: str) -> None:
    given = [str(config) if one == "CONFIG" else one for one in arguments]
    code, out, err = command(str(data), *given)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert says in err
    assert err.count("\n") == 1
