"""The few-shot load test trains each set on its own few rows, measures on the others, and goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from load_tests.few_shot import main


def write_corpus(path: Path) -> Path:
    rows = [
        {"dataset": name, "split": split, "text": f"{label[0] * 4} {i}", "labels": [label], "multi": False}
        for name, labels in (("letters", ("alpha", "beta")), ("others", ("gamma", "delta")))
        for split, each in (("few", 2), ("test", 5))
        for i in range(each)
        for label in labels
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(corpus: Path, model: Path, capfd: pytest.CaptureFixture[str], only: list[str] | None = None) -> str:
    with pytest.raises(typer.Exit) as ended:
        main(
            corpus, work=corpus.parent / "work", fit="few", measure="test", only=only, lora=0, rate=1e-3, steps=2,
            seed=1, model=str(model), keep=False,
        )  # fmt: skip
    out, err = capfd.readouterr()
    return out if ended.value.exit_code == 0 else err


def test_one_line_a_set(tiny_bundled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    run(corpus, tiny_bundled, capfd, only=["others"])
    results = tmp_path / "work" / "results.jsonl"
    assert [json.loads(line)["dataset"] for line in results.read_text().splitlines()] == ["others"]
    printed = run(corpus, tiny_bundled, capfd)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(row["dataset"], row["fitted"], row["rows"], row["labels"]) for row in rows] == [
        ("others", 4, 10, 2),
        ("letters", 4, 10, 2),
    ]
    whole = json.loads(printed.splitlines()[-1])
    assert whole["mean_macro_f1"] == pytest.approx(sum(row["macro_f1"] for row in rows) / 2)
    assert [path.name for path in results.parent.iterdir()] == ["results.jsonl"]


def test_a_set_that_is_not_there(tiny_bundled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    assert "split 'few' has no rows of 'nothing'" in run(corpus, tiny_bundled, capfd, only=["nothing"])
