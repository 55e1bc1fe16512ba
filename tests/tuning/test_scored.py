"""Logits of labelled records: in order, by facet, beside what is right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from streamer.engine.base import Classifier
from streamer.engine.fake import FakeClassifier
from streamer.errors import FatalError
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Document, Scores
from streamer.tuning.labelled import LabelledRecords
from streamer.tuning.scored import score_records, scored_facets

MOOD = Facet("mood", Kind.SINGLE, (Label("good"), Label("bad")))
TOPIC = Facet("topic", Kind.MULTI, (Label("billing"), Label("outage"), Label("delay")))
UNSAID = Facet("unsaid", Kind.MULTI, (Label("x"),))
LABEL_SET = LabelSet("tickets", (MOOD, TOPIC, UNSAID))
TEXTS = tuple(f"text {i}" for i in range(300))


@contextmanager
def fake(out_of_memory: Collection[str] = ()) -> Iterator[Classifier]:
    one = FakeClassifier(
        window_tokens=64, max_tokens=4096, window_s=0.0, record_s=0.0, out_of_memory=out_of_memory
    )  # fmt: skip
    yield one
    one.close()


def alone(classifier: Classifier, text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    result = classifier.submit([Document(text, LABEL_SET)]).wait(10.0)
    assert result is not None
    assert isinstance(result.scores[0], Scores)
    return result.scores[0].logits


def test_every_text_in_order() -> None:
    done: list[int] = []
    with fake() as classifier:
        mood, topic, unsaid = score_records(classifier, LABEL_SET, TEXTS, done.append)
        assert (mood.shape, topic.shape, unsaid.shape) == ((300, 2), (300, 3), (300, 1))
        assert mood.dtype == np.float32
        for row in (0, 127, 128, 256, 299):
            whole = np.concatenate([mood[row], topic[row], unsaid[row]])
            np.testing.assert_array_equal(whole, alone(classifier, TEXTS[row]))
    assert sum(done) == 300


def test_no_texts() -> None:
    with fake() as classifier:
        assert [one.shape for one in score_records(classifier, LABEL_SET, [], _ignore)] == [(0, 2), (0, 3), (0, 1)]


def test_a_text_that_cannot_be_scored_stops() -> None:
    with fake(out_of_memory=["text 3"]) as classifier, pytest.raises(FatalError, match="text 4 cannot be scored"):
        score_records(classifier, LABEL_SET, TEXTS, _ignore)


def test_right_labels_beside_logits() -> None:
    records = LabelledRecords(
        TEXTS[:3],
        {
            "mood": (frozenset({"bad"}), None, frozenset({"good"})),
            "topic": (frozenset(), frozenset({"billing", "delay"}), None),
            "unsaid": (None, None, None),
        },
        None,
    )
    with fake() as classifier:
        logits = score_records(classifier, LABEL_SET, records.texts, _ignore)
    mood, topic = scored_facets(LABEL_SET, records, logits)
    assert (mood.facet, mood.rows.tolist(), mood.right.tolist()) == (MOOD, [0, 2], [[False, True], [True, False]])
    np.testing.assert_array_equal(mood.logits, logits[0][[0, 2]])
    assert (topic.facet, topic.rows.tolist()) == (TOPIC, [0, 1])
    assert topic.right.tolist() == [[False, False, False], [True, False, True]]


_ignore: Callable[[int], None] = lambda done: None  # noqa: E731
