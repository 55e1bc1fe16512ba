"""What a check says of labels, by their names, by the model's vectors, and by its answers to texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from streamer.app import build_classifier, build_embedder
from streamer.check.findings import Finding, Level
from streamer.check.labels import check_labels, check_names, open_texts
from streamer.check.run import check_settings
from streamer.errors import UsageError
from streamer.settings import Settings, build_settings

WHERE = "label_sets.tickets.facets.mood"


def settings(facet: dict[str, Any], model: dict[str, Any] | None = None) -> Settings:
    content = {
        "model": model or {"name": "fake"},
        "http": {"port": 0},
        "label_sets": {"tickets": {"facets": {"mood": facet}}},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "tickets", "text": ["/body"]}],
    }
    return build_settings(content, origin="test")


def findings(one: Settings, texts: Path | None = None) -> list[Finding]:
    classifier = build_classifier(one.model, max_tokens="auto")
    tried = None if texts is None else open_texts(texts, Console(quiet=True))
    label_set = one.build_label_sets()["tickets"]
    try:
        classifier.warm_up([label_set])
        embedder = build_embedder(one.model)
        return list(check_labels(one, label_set, classifier=classifier, embedder=embedder, texts=tried))
    finally:
        classifier.close()


def tiny(directory: Path) -> dict[str, Any]:
    return {"name": str(directory), "device": "cpu", "dtype": "float32"}


def test_tips_are_warnings_at_the_place_of_the_facet() -> None:
    labels = settings({"labels": ["spam", "not spam", "other"]}).build_label_sets()["tickets"]
    found = list(check_names(labels))
    assert [one.level for one in found] == [Level.WARNING] * 2
    assert {one.where for one in found} == {WHERE}
    assert all(one.advice for one in found)


def test_a_model_with_vectors_tells_labels_that_it_reads_as_one_or_cuts(tiny_bundled: Path) -> None:
    # the tiny model reads 12 tokens of a label, a letter each, two of them signs of its own
    facet = {"labels": ["abcdefghij klm", "abcdefghij nop", "zq"]}
    cut, near = findings(settings(facet, tiny(tiny_bundled)))
    assert cut.what == ("'abcdefghij klm', 'abcdefghij nop': longer than the 12 tokens that the model reads of a label")
    assert near.what == "'abcdefghij klm', 'abcdefghij nop' mean nearly the same to the model (likeness 1.00 of 1)"
    assert {one.where for one in (cut, near)} == {WHERE}


def test_labels_that_score_alike_on_texts_are_told_with_an_example(tiny_bundled: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_bytes(b"".join(orjson.dumps({"body": f"text {n}"}) + b"\n" for n in range(40)) + b'{"other": 1}\n')
    one = settings({"labels": ["abcdefghij klm", "abcdefghij nop"]}, tiny(tiny_bundled))
    *_, tried, alike = findings(one, texts)
    assert (tried.level, tried.what) == (Level.OK, "labels tried on 40 texts of 41 rows")
    assert "of 40 texts that are given one of them, 40 have nearly the same score for both, as 'text 0'" in alike.what


def test_labels_that_texts_tell_apart_are_left_alone(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"text {n}\n" for n in range(200)))
    (tried,) = findings(settings({"labels": ["good", "bad"]}), texts)  # the fake scores by chance, and mostly apart
    assert tried.level is Level.OK
    assert [one.level for one in findings(settings({"kind": "multi", "labels": ["good", "bad"]}), texts)] == [Level.OK]


def test_a_whole_check_takes_texts(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("one\ntwo\n")
    report = check_settings(
        settings({"labels": ["good", "bad"]}), connection=None, texts=open_texts(texts, Console(quiet=True))
    )
    assert (report.errors, report.warnings) == (0, 0)
    assert "labels tried on 2 texts of 2 rows" in [one.what for one in report.findings]


def test_texts_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        open_texts(tmp_path / "missing.txt", Console(quiet=True))
    empty = tmp_path / "rows.jsonl"
    empty.write_text('{"other": 1}\n')
    with pytest.raises(UsageError, match="no row has a text"):
        findings(settings({"labels": ["good", "bad"]}), empty)
