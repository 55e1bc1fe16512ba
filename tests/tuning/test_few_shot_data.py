"""From labelled records to examples: what is known, what is held out, which labels a file names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamer.errors import UsageError
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.tuning.few_shot_data import Examples, examples_of, hold_out, label_set_of_file
from streamer.tuning.labelled import LabelledRecords

FACETS = (
    Facet("mood", Kind.SINGLE, (Label("good"), Label("bad"))),
    Facet("topic", Kind.MULTI, (Label("bill"), Label("outage"))),
)
LABELS = LabelSet("tickets", FACETS)


def test_examples_know_what_nobody_said() -> None:
    right = {
        "mood": (frozenset({"bad"}), None, None),
        "topic": (None, frozenset({"bill"}), None),
    }
    found = examples_of(LABELS, LabelledRecords(("a", "b", "c"), right, None))
    assert found.texts == ("a", "b")
    assert found.right.tolist() == [[False, True, False, False], [False, False, True, False]]
    assert found.known.tolist() == [[True, True, False, False], [False, False, True, True]]
    assert found.with_more(Examples.none(4)).texts == found.texts


@pytest.mark.parametrize(("each", "share", "kept"), [(10, 0.2, 2), (8, 0.5, 4), (1, 0.5, 0), (2, 0.5, 1)])
def test_hold_out_takes_of_every_label_and_leaves_one(each: int, share: float, kept: int) -> None:
    right = np.eye(3, dtype=np.bool_)[np.arange(3 * each) % 3]
    whole = Examples(tuple(map(str, range(3 * each))), right, np.ones_like(right))
    fit, held = hold_out(whole, share, seed=1)
    assert held.right.sum(axis=0).tolist() == [kept] * 3
    assert sorted(fit.texts + held.texts) == sorted(whole.texts)
    assert hold_out(whole, share, seed=1)[1].texts == held.texts


@pytest.mark.parametrize(
    ("rows", "kind", "names"),
    [
        ('{"text": "a", "labels": ["up"]}\n{"text": "b", "labels": "down"}', Kind.SINGLE, ["down", "up"]),
        ('{"text": "a", "labels": "up; on"}\n{"text": "b", "labels": null}', Kind.MULTI, ["on", "up"]),
        ('{"text": "a", "labels": "[\\"up\\", \\"on\\"]"}\n{"text": "b", "labels": []}', Kind.MULTI, ["on", "up"]),
    ],
)
def test_labels_of_a_file(tmp_path: Path, rows: str, kind: Kind, names: list[str]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(rows)
    (facet,) = label_set_of_file(path, name="x", split=None).facets
    assert (facet.kind, [label.name for label in facet.labels]) == (kind, names)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ('{"text": "a", "labels": ["up"]}', "names 1 labels; at least two are needed"),
        ('{"text": "a"}', "names 0 labels"),
        ('{"text": "a", "labels": {"mood": "up"}}', "row 1: 'labels' holds neither a name nor a list"),
        ('{"text": "a", "labels": [1]}', "row 1: 'labels' holds neither"),
        ('{"text": "a", "labels": "[x"}', "row 1: 'labels' begins as a list and is none"),
    ],
)
def test_files_without_labels_are_one_line(tmp_path: Path, rows: str, says: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(rows)
    with pytest.raises(UsageError, match=says.replace("[", r"\[")) as caught:
        label_set_of_file(path, name="x", split=None)
    assert "\n" not in str(caught.value)
