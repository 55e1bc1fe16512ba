"""Suggestions as they are shown, and as settings and JSON take them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml
from numpy.typing import NDArray
from rich.console import Console

from streamer.cli import app
from streamer.errors import UsageError
from streamer.labels.suggest import SuggestedLabel, Suggestion, settings_block, show_suggestion, suggest
from streamer.labels.texts import Sample
from streamer.settings_labels import LabelSetSettings

THEMES = (("invoice", "charged twice"), ("parcel", "courier was late"))


class Embedder:
    """An Embedder that knows two themes, by their words."""

    label_tokens = 8

    def cuts(self, wordings: Sequence[str]) -> list[bool]:
        return [False] * len(wordings)

    def embed(self, texts: Sequence[str], *, most_tokens: int) -> NDArray[np.float32]:
        return np.array([[1, 0] if "invoice" in text or "charged" in text else [0, 1] for text in texts], np.float32)


def sample() -> Sample:
    texts = [f"the {THEMES[n % 3 > 0][0]}\n{THEMES[n % 3 > 0][1]} {n}" for n in range(30)]
    return Sample(tuple(texts), 100, 0)


def found(count: int | None = None) -> Suggestion:
    return suggest(sample(), Embedder(), count=count, most=10, seed=1, console=Console(quiet=True))


def test_labels_come_with_counts_terms_and_examples() -> None:
    suggestion = found(count=2)
    assert (suggestion.texts, suggestion.rows) == (30, 100)
    larger, smaller = suggestion.labels
    assert (larger.texts, smaller.texts) == (20, 10)
    assert larger.share == 0.6667
    assert {"parcel", "courier"} <= set(larger.terms)
    assert smaller.name in ("invoice", "charged", "charged twice", "invoice charged", "twice")
    assert len(larger.examples) == 3
    assert all("\n" not in one and "parcel" in one for one in larger.examples)
    assert json.loads(orjson.dumps(suggestion.as_dict()))["labels"][0]["name"] == larger.name


def test_the_block_is_a_label_set_whatever_the_names_are() -> None:
    names = ("yes", "null", "3", "a: b", 'quo"te', "käse", "#x")
    labels = tuple(SuggestedLabel(name, ("one", "two"), 5, 0.1, ()) for name in names)
    content = yaml.safe_load(settings_block(Suggestion(labels, 50, 50, 0.2)))
    built = LabelSetSettings.model_validate(content["label_sets"]["suggested"]).build("suggested")
    assert tuple(label.name for label in built.labels) == names


def test_the_table_shows_somebody_elses_text_as_it_is_but_harmless() -> None:
    label = SuggestedLabel("card", ("card",), 5, 0.5, (r"\x1b[31m [red]text[/red]",))
    file = io.StringIO()
    show_suggestion(Console(file=file, width=160), Suggestion((label,), 10, 40, 0.01))
    for part in ("card", "50.0 %", "[red]text[/red]", "a sample of 40 rows", "run into each other", "streamer check"):
        assert part in file.getvalue()


def test_the_command_suggests_from_a_file(
    tiny_bundled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tickets.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"body": text}) + b"\n" for text in sample().texts))
    arguments = ["labels", "suggest", str(path), "--text", "body", "--model", str(tiny_bundled), "--device", "cpu"]
    app([*arguments, "--count", "2", "--json"], standalone_mode=False)
    first = json.loads(capsys.readouterr().out)
    assert sum(label["texts"] for label in first["labels"]) == 30
    app([*arguments, "--yaml"], standalone_mode=False)
    assert "suggested" in yaml.safe_load(capsys.readouterr().out)["label_sets"]
    app(arguments, standalone_mode=False)
    assert "silhouette" in capsys.readouterr().out
    app([*arguments, "--count", "2", "--json", "--sample", "12"], standalone_mode=False)
    sampled = json.loads(capsys.readouterr().out)
    assert (sampled["texts"], sampled["rows"]) == (12, 30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jsonl"], "no such file"),
        (["few.txt"], "2 texts are too few"),
        (["few.txt", "--model", "fake"], "model 'fake' makes no vectors of texts"),
        (["few.txt", "--text", "body"], "every line is a text"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, tiny_bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("few.txt").write_text("one\ntwo\n")
    model = [] if "--model" in arguments else ["--model", str(tiny_bundled), "--device", "cpu"]
    with pytest.raises(UsageError, match=message):
        app(["labels", "suggest", *arguments, *model], standalone_mode=False)
