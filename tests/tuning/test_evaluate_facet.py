"""One facet's result: confusions, mistakes, intervals around their figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from streamer.facets import Kind
from streamer.tuning.evaluate_facet import MOST_MISTAKES, evaluate_facet
from streamer.tuning.evaluate_result import FacetResult
from tests.tuning.planted import planted, records_of


def evaluated(kind: Kind, *, min_margin: float = 0.0) -> FacetResult:
    answers = planted(kind, min_margin=min_margin)
    return evaluate_facet(answers, records_of(answers), seed=1)


@pytest.mark.parametrize("kind", list(Kind))
def test_intervals_are_around_their_figures(kind: Kind) -> None:
    found = evaluated(kind, min_margin=0.05)
    averages = [x for three in (found.macro, found.micro, found.weighted) for x in (three.precision, three.f1)]
    for figure in (found.accuracy, found.answered, found.accuracy_answered, found.brier, *averages):
        assert figure.low <= figure.value <= figure.high
        assert 0 < figure.high - figure.low < 0.2
    assert list(found.accuracy_at) == ["1", "3", "5"]
    assert found.never_right == ("label 5",)
    assert (found.mean_average_precision is None) == (kind is Kind.SINGLE)
    assert (found.ece_labels is None) == (kind is Kind.SINGLE)
    assert sum(one.records for one in found.reliability) == found.records == 400


def test_confusion_of_a_single_facet_is_the_usual_matrix() -> None:
    answers = planted(Kind.SINGLE)
    expected = confusion_matrix(answers.right.argmax(axis=1), answers.given.argmax(axis=1), labels=range(6))
    cells = {(one.right, one.given): one.records for one in evaluated(Kind.SINGLE).confusion}
    for i, right in enumerate(answers.names):
        for j, given in enumerate(answers.names):
            assert cells.get((right, given), 0) == expected[i, j]


def test_nothing_given_has_a_column() -> None:
    answers = planted(Kind.SINGLE, min_margin=0.3)
    cells = Counter(
        {one.right: one.records for one in evaluated(Kind.SINGLE, min_margin=0.3).confusion if not one.given}
    )
    assert cells.total() == answers.abstained.sum()


def test_right_labels_of_a_multi_facet_are_not_confused() -> None:
    answers = planted(Kind.MULTI)
    perfect = replace(answers, guessed=answers.right)
    found = evaluate_facet(perfect, records_of(perfect), seed=1)
    assert all(one.given == one.right for one in found.confusion)
    assert found.accuracy.value == 1.0
    assert found.mistakes == ()


def test_mistakes_come_surest_first() -> None:
    answers = planted(Kind.SINGLE)
    found = evaluated(Kind.SINGLE)
    assert len(found.mistakes) == MOST_MISTAKES
    scores = [one.score for one in found.mistakes]
    assert scores == sorted(scores, reverse=True)
    wrong = (answers.given & ~answers.right).any(axis=1)
    assert scores[0] == answers.scores[wrong].max()
    first = found.mistakes[0]
    assert (first.text, first.id) == (f"text {first.row - 1}", None)
    assert first.right == tuple(np.array(answers.names)[answers.right[first.row - 1]])
    assert first.given != first.right
