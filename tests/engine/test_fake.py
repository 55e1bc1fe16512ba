"""The fake: pure scores, set service times, planted faults, no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection

import numpy as np
import pytest

from streamer.engine.fake import FakeClassifier
from streamer.errors import FatalError
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Document, Reject, Scores

MOOD = LabelSet("mood", (Facet("mood", Kind.SINGLE, (Label("good"), Label("bad"), Label("odd", "neither"))),))


def make(slept: list[float], *, out_of_memory: Collection[str] = (), failing: Collection[str] = ()) -> FakeClassifier:
    return FakeClassifier(
        window_tokens=100,
        max_tokens=1000,
        window_s=0.5,
        record_s=0.25,
        sleep=slept.append,
        out_of_memory=out_of_memory,
        failing=failing,
    )


def score(classifier: FakeClassifier, *texts: str) -> tuple[Scores | Reject, ...]:
    window = classifier.submit([Document(text, MOOD) for text in texts]).wait(10.0)
    assert window is not None
    return window.scores


def test_two_fakes_agree_and_scores_differ_by_text_and_label() -> None:
    first, second = make([]), make([])
    one, other = score(first, "a", "b")
    again = score(second, "a")[0]
    assert isinstance(one, Scores)
    assert isinstance(other, Scores)
    assert isinstance(again, Scores)
    np.testing.assert_array_equal(one.logits, again.logits)
    assert len({*one.logits.tolist(), *other.logits.tolist()}) == 6
    first.close()
    second.close()


def test_scores_are_spread_over_their_range() -> None:
    classifier = make([])
    scores = score(classifier, *(f"text {i}" for i in range(300)))
    logits = np.concatenate([one.logits for one in scores if isinstance(one, Scores)])
    assert logits.min() >= -4.0
    assert logits.max() <= 4.0
    assert abs(float(logits.mean())) < 0.3
    assert 2.0 < float(logits.std()) < 2.6  # an even spread has 2.31
    classifier.close()


def test_a_window_takes_the_set_time() -> None:
    slept: list[float] = []
    classifier = make(slept)
    score(classifier, "a", "b", "c")
    assert sum(slept) == pytest.approx(0.5 + 3 * 0.25)
    classifier.close()


def test_planted_faults() -> None:
    classifier = make([], out_of_memory=["big"], failing=["broken"])
    answers = score(classifier, "a", "big", "c")
    assert [isinstance(one, Scores) for one in answers] == [True, False, True]
    with pytest.raises(FatalError, match="fake device failed"):
        score(classifier, "a", "broken")
    classifier.close()


def test_it_needs_no_torch() -> None:
    code = "import sys, streamer.engine.fake; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
