"""The command line: every verb hands over, every mistake is one line and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.commands import Command


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "streamer.yaml"
    content = {
        "kafka": {"bootstrap_servers": "embedded", "group_protocol": "consumer"},
        "model": {"name": "fake"},
        "http": {"enabled": False},
        "label_sets": {"a": {"facets": {"mood": {"labels": ["bad", "good"]}}}},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "a"}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("classify", "--model", "fake", "--labels", "mood=bad,good", "-i", "-"), "a text\n" * 20_000),  # while writing
        (("classify", "--model", "fake", "--labels", "mood=bad,good", "a text"), ""),  # at the end
        (("check", "--offline", "-c", "SETTINGS"), ""),  # a table
    ],
)
def test_a_reader_that_goes_away_ends_it_quietly(arguments: tuple[str, ...], text: str, settings: Path) -> None:
    given = [str(settings) if argument == "SETTINGS" else argument for argument in arguments]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "streamer", *given],
            input=text.encode(),
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_version_and_help(command: Command) -> None:
    assert command("--version") == (0, "streamer 0.1.0\n", "")
    for verb in ("demo", "run", "check", "classify", "produce", "train", "evaluate", "bench"):
        code, out, err = command(verb, "--help")
        assert (code, err) == (0, "")
        assert verb in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("runn",), "No such command 'runn'"),
        (("run",), "Missing option '--config'"),
        (("run", "-c", "nowhere.yaml"), "nowhere.yaml: No such file"),
        (("run", "--bogus"), "No such option"),
        (("check", "-c", "nowhere.yaml"), "nowhere.yaml: No such file"),
        (("classify",), "give a text, or --input FILE"),
        (("classify", "x"), "no labels to choose from; give e.g. --labels"),
        (("classify", "x", "--labels", "topic"), "a facet's name and its labels are needed"),
        (("classify", "x", "--labels", "topic=a"), "two labels or more are needed"),
        (("classify", "x", "--labels", "t=a,b", "--model", "/none"), "/none"),
        (("classify", "x", "--label-set", "a"), "give the file with -c"),
        (("classify", "-i", "none.jsonl", "--labels", "t=a,b"), "none.jsonl"),
        (("classify", "x", "--labels", "t=a,b", "--threshold", "7"), "threshold"),
        (("produce", "none.jsonl", "--topic", "t"), "none.jsonl"),
        (("produce", "x.jsonl", "--topic", "t", "--property", "a"), "write name=value"),
        (("evaluate", "none.parquet"), "none.parquet"),
        (("bench", "--only", "stages,speed"), "--only 'speed': no such section; use one or more of stages,"),
        (("bench", "--picture", "bench.png"), "name a file that ends in .svg"),
        (("train", "none.jsonl", "--out", "nothing-here"), "none.jsonl"),
        (("train", "x", "--out", "y", "--steps", "0"), "--steps"),
    ],
)
def test_mistakes_are_one_line(command: Command, arguments: tuple[str, ...], says: str) -> None:
    code, _, err = command(*arguments)
    assert code == 2
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_classify_a_text(command: Command, settings: Path) -> None:
    code, out, err = command("classify", "hello", "--labels", "mood=bad,good", "--model", "fake")
    assert (code, err) == (0, "")
    assert set(json.loads(out)["facets"]["mood"]["scores"]) == {"bad", "good"}
    again = command("classify", "hello", "-c", str(settings))
    assert again == (0, out, "")


def test_classify_a_file(command: Command, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "a"}\n{"text": ""}\n{"text": "b"}\n')
    arguments = ("classify", "-i", str(source), "-o", str(output), "--multi-labels", "t=x,y", "--model", "fake")
    code, _, err = command(*arguments)
    assert code == 0
    assert "3 rows" in err
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert ["facets" in row for row in rows] == [True, False, True]
    code, _, err = command(*arguments)
    assert code == 2
    assert "--overwrite" in err


def test_check(command: Command, settings: Path) -> None:
    code, out, _ = command("check", "-c", str(settings))
    assert code == 0
    assert "label_sets.a" in out
    code, out, _ = command("check", "-c", str(settings), "--offline")
    assert code == 0
    abort = ("check", "-c", str(settings), "--abort-transactions", "streamer-1")
    assert command(*abort)[::2] == (2, "error: the embedded broker knows no transactions: there is nothing to abort\n")
    code, _, err = command(*abort, "--offline")
    assert (code, err) == (2, "error: --abort-transactions needs the broker; leave out --offline\n")


def test_evaluate_and_pretrain(command: Command, tiny_bundled: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "up", "labels": ["rise"]}\n{"text": "down", "labels": ["fall"]}\n')
    out = tmp_path / "model"
    code, _, err = command(
        "pretrain",
        "--data",
        str(data),
        "--start",
        str(tiny_bundled),
        "--out",
        str(out),
        "--steps",
        "2",
        "--device",
        "cpu",
    )
    assert code == 0, err
    code, printed, err = command("evaluate", str(data), "--model", str(out), "--dtype", "float32", "--json")
    assert code == 0, err
    result = json.loads(printed.splitlines()[-1])
    assert result["sets"][0]["rows"] == 2
    assert 0 <= result["mean_macro_f1"] <= 1
