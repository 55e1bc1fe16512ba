"""`streamer train` from files to a model directory that is served, and everything that can be wrong in between."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from streamer.__main__ import main
from streamer.engine.loading import WEIGHTS
from streamer.errors import UsageError
from streamer.tuning import few_shot_job
from streamer.tuning.checkpoint import write_checkpoint
from streamer.tuning.few_shot_card import CARD
from streamer.tuning.few_shot_job import Wish, run_few_shot

ROWS = [{"text": f"{name[0] * 4} {i}", "labels": name} for i in range(8) for name in ("alpha", "beta")]
SETTINGS: dict[str, Any] = {
    "model": {"name": "bundled"},
    "label_sets": {
        "letters": {"facets": {"letter": {"labels": {"alpha": "the first | letter", "beta": None}}}},
        "other": {"facets": {"x": {"labels": ["a", "b"]}}},
    },
    "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "letters"}],
}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data.jsonl", ROWS)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "streamer.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


@pytest.fixture
def wish(tiny_bundled: Path, data: Path, tmp_path: Path) -> Wish:
    return Wish(
        data=data, out=tmp_path / "model", config=None, label_set=None, model=str(tiny_bundled), text=["text"],
        split=None, validation=None, held_out=None, unlabelled=None, lora=0, steps=4, rate=3e-3, text_tokens=16,
        patience=3, seed=1, device="cpu", resume=False,
    )  # fmt: skip


def run(wish: Wish) -> str:
    """What the terminal is told."""
    console = Console(record=True, width=300, file=sys.stderr)
    run_few_shot(wish, console=console)
    return console.export_text()


def test_the_directory_written_is_served(
    wish: Wish, config: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told = run(replace(wish, config=config, label_set="letters", steps=40, held_out=0.25))
    assert "12 labelled texts, 0 chosen of unlabelled ones, 4 held out; 2 labels" in told
    assert "held-out texts right: 100.0%" in told
    assert sorted(path.name for path in wish.out.iterdir()) == sorted([CARD, "config.json", WEIGHTS, "tokenizer.json"])
    assert [path.name for path in wish.out.parent.glob("model*")] == ["model"]
    card = (wish.out / CARD).read_text()
    assert "| letter | single | alpha: the first \\| letter | 6 |" in card
    arguments = ["streamer", "classify", "aaaa 9", "-c", str(config), "--label-set", "letters", "--model"]
    monkeypatch.setattr(sys, "argv", [*arguments, str(wish.out), "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert json.loads(capfd.readouterr().out)["facets"]["letter"]["labels"] == ["alpha"]


def test_the_command_line(wish: Wish, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--out", str(wish.out), "--model", str(wish.model), "--steps", "2", "--lora", "2", "--device", "cpu"]
    for code, says in ((0, "written:"), (2, "exists and is not empty; --out takes a new directory")):
        monkeypatch.setattr(sys, "argv", ["streamer", "train", str(wish.data), *arguments])
        with pytest.raises(SystemExit, match=str(code)):
            main()
        assert says in capfd.readouterr().err
    assert "LoRA of rank 2, merged" in (wish.out / CARD).read_text()


def test_a_run_broken_off_goes_on_to_the_same_model(
    wish: Wish, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(few_shot_job, "CHECKPOINT_STEPS", 2)
    whole, broken = replace(wish, out=tmp_path / "whole"), replace(wish, out=tmp_path / "broken")
    run(whole)

    def interrupt(*arguments: Any) -> None:
        write_checkpoint(*arguments)
        raise KeyboardInterrupt

    console = Console(record=True, width=300, file=sys.stderr)
    monkeypatch.setattr(few_shot_job, "write_checkpoint", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_few_shot(broken, console=console)
    monkeypatch.setattr(few_shot_job, "write_checkpoint", write_checkpoint)
    assert "broken.unfinished holds the run; the same command with --resume goes on" in console.export_text()
    with pytest.raises(UsageError, match="an unfinished run; go on with --resume, or remove the file"):
        run(broken)
    with pytest.raises(UsageError, match="of a run with other settings"):
        run(replace(broken, resume=True, seed=2))
    run(replace(broken, resume=True))
    assert (broken.out / WEIGHTS).read_bytes() == (whole.out / WEIGHTS).read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


def test_unlabelled_texts_alone_are_enough(wish: Wish, config: Path, tmp_path: Path) -> None:
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in ROWS])
    alone = replace(wish, data=None, config=config, label_set="letters", unlabelled=texts)
    told = run(alone)
    assert told.startswith("0 labelled texts, ")
    assert "chosen of unlabelled ones" in told
    again = replace(alone, data=wish.data, out=tmp_path / "both", validation=wish.data)
    assert "16 labelled texts" in run(again)


def test_held_out_by_default_from_many_texts_on(wish: Wish, tmp_path: Path) -> None:
    many = write_rows(tmp_path / "many.jsonl", ROWS * 4)
    assert "58 labelled texts, 0 chosen of unlabelled ones, 6 held out" in run(replace(wish, data=many))


Change = Callable[[Wish, Path], Wish]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w, c: replace(w, data=None), "nothing to learn from; give a labelled FILE"),
        (lambda w, c: replace(w, data=None, unlabelled=w.data), "--unlabelled alone needs the labels"),
        (lambda w, c: replace(w, label_set="letters"), "--label-set names one of a settings file"),
        (lambda w, c: replace(w, config=c), "the settings have several label sets"),
        (lambda w, c: replace(w, config=c, label_set="other"), "row 1: .*no label 'alpha'"),
        (lambda w, c: replace(w, data=c.with_name("no.jsonl")), "no such file"),
        (lambda w, c: replace(w, text=["body"]), "no column 'body'"),
        (lambda w, c: replace(w, out=c), "exists and is not empty"),
        (lambda w, c: replace(w, out=c.parent / "a" / "b"), "no such directory; make it first"),
        (lambda w, c: replace(w, validation=w.data, held_out=0.1), "give --validation or --held-out, not both"),
        (lambda w, c: replace(w, held_out=0.01), "--held-out 0.01: too few texts of any label"),
        (lambda w, c: replace(w, resume=True), "no unfinished run; leave out --resume"),
        (lambda w, c: replace(w, model="fake"), "the model 'fake' has no files"),
        (lambda w, c: replace(w, unlabelled=w.data, text=["labels"], data=None, config=c, label_set="letters",
                              device="tpu"), "device 'tpu'"),
        (lambda w, c: replace(w, unlabelled=write_rows(c.with_name("u.jsonl"), [{"x": 1}])), "row 1: no text in"),
        (lambda w, c: replace(w, unlabelled=write_rows(c.with_name("u.jsonl"), [])), "u.jsonl: no rows"),
        (lambda w, c: replace(w, data=write_rows(c.with_name("u.jsonl"), [ROWS[0], {"text": "b", "labels": None}]),
                              config=c, label_set="letters"), "1 texts to train on; at least two"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(wish: Wish, config: Path, change: Change, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        run(change(wish, config))
    assert "\n" not in str(caught.value)
    assert not (config.parent / "model").exists()
