"""Evaluation equals scikit-learn on the same predictions, and cuts texts by tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from sklearn.metrics import f1_score
from tokenizers import Tokenizer

from streamer.engine.base import Classifier
from streamer.engine.fake import FakeClassifier
from streamer.engine.loading import TOKENIZER
from streamer.errors import FatalError, UsageError
from streamer.tuning.data import LabelledSet
from streamer.tuning.evaluate import cut_texts, label_set_of, predict, score_set
from streamer.tuning.evaluate_sets import run_evaluate, show_evaluation

NAMES = ("a", "b", "c")
TEXTS = tuple(f"text {i}" for i in range(300))
SINGLE = LabelledSet("single", NAMES, TEXTS, tuple((NAMES[i % 3],) for i in range(300)), False)
MULTI = LabelledSet("multi", NAMES, TEXTS, tuple(NAMES[: i % 4] for i in range(300)), True)


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    one = FakeClassifier(window_tokens=64, max_tokens=4096, window_s=0.0, record_s=0.0)
    yield one
    one.close()


def test_single(classifier: Classifier) -> None:
    predicted = predict(classifier, label_set_of(SINGLE), TEXTS, lambda done: None)
    result = score_set(SINGLE, predicted)
    right, given = [one[0] for one in SINGLE.labels], [one[0] for one in predicted]
    assert result.macro_f1 == pytest.approx(f1_score(right, given, average="macro"))
    assert result.accuracy == pytest.approx(sum(r == g for r, g in zip(right, given, strict=True)) / 300)


def test_multi(classifier: Classifier) -> None:
    predicted = predict(classifier, label_set_of(MULTI), TEXTS, lambda done: None)
    result = score_set(MULTI, predicted)
    per_label = [f1_score([name in one for one in MULTI.labels], [name in one for one in predicted]) for name in NAMES]
    assert result.macro_f1 == pytest.approx(sum(per_label) / 3)
    assert score_set(MULTI, MULTI.labels).macro_f1 == 1.0


def test_a_text_that_cannot_be_scored_is_one_line() -> None:
    one = FakeClassifier(window_tokens=64, max_tokens=4096, window_s=0.0, record_s=0.0, out_of_memory=["text 3"])
    with pytest.raises(FatalError, match="single: the engine refused 1 texts"):
        predict(one, label_set_of(SINGLE), TEXTS[:8], lambda done: None)
    one.close()


def test_command(classifier: Classifier, tiny_bundled: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "up", "labels": ["a"]}\n{"text": "down", "labels": ["b"]}\n')
    console = Console(record=True, width=100, quiet=True)
    seen: list[str] = []

    def run(leave_out: list[str]) -> None:
        result = run_evaluate(
            console=console, load=lambda: (classifier, tiny_bundled), data=data, split=None,
            leave_out=leave_out, max_text_tokens=8,
        )  # fmt: skip
        assert result.mean_macro_f1 == result.sets[0].macro_f1
        show_evaluation(console, result)
        seen.append(result.sets[0].dataset)

    run([])
    assert seen == ["data"]
    with pytest.raises(UsageError, match="every data set is left out"):
        run(["data"])


def test_cut_texts(tiny_bundled: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_bundled / TOKENIZER))  # spells: a token per letter
    assert cut_texts(tokenizer, ["ab cd ef", "ab", ""], 3) == ["ab c", "ab", ""]
