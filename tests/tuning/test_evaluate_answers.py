"""Answers are those of the road: calibration, thresholds and abstention count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamer.decide import decide
from streamer.facets import Correction, Kind, LabelSet
from streamer.records import Document, Scores
from streamer.tuning.evaluate_answers import align, answer
from tests.tuning.planted import planted, scored


@pytest.mark.parametrize("kind", list(Kind))
def test_what_an_event_would_hold(kind: Kind) -> None:
    one = scored(kind, records=60, min_margin=0.1)
    corrected = replace(one.facet, correction=Correction((0.7,) * 6, (0.5, -0.5, 0.0, 0.0, 0.0, 0.0)), threshold=0.4)
    answers = answer(replace(one, facet=corrected))
    label_set = LabelSet("set", (corrected,))
    verdicts = decide([Document("", label_set)] * 60, [Scores(row, 0, False) for row in one.logits])
    assert 0 < answers.abstained.sum() < 60
    for i, verdict in enumerate(verdicts):
        facet = verdict.facets[0]
        assert {answers.names[j] for j in answers.given[i].nonzero()[0]} == set(facet.labels)
        assert answers.abstained[i] == facet.abstained
        assert dict(zip(answers.names, answers.scores[i], strict=True)) == facet.scores
    assert answers.guessed[answers.abstained].any()


def test_ranks_tell_apart_what_rounding_makes_equal() -> None:
    one = scored(Kind.SINGLE, records=2, labels=3)
    logits = np.array([[30.0, 1.0, 2.0], [30.0, 2.0, 1.0]], dtype=np.float32)
    answers = answer(replace(one, logits=logits))
    assert answers.scores[0].tolist() == answers.scores[1].tolist() == [1.0, 0.0, 0.0]
    assert answers.ranks[:, 1:].argmax(axis=1).tolist() == [1, 0]


def test_align() -> None:
    answers = planted(Kind.MULTI, labels=3)
    turned = align(answers, ("label 2", "label 0", "label 1"))
    assert turned.names == ("label 2", "label 0", "label 1")
    for before, after in (
        (answers.right, turned.right),
        (answers.scores, turned.scores),
        (answers.given, turned.given),
    ):
        np.testing.assert_array_equal(before[:, [2, 0, 1]], after)
