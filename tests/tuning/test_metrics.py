"""Every figure equals scikit-learn's on the same answers, as it is and on resamples."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from streamer.facets import Kind
from streamer.tuning.bootstrap import interval
from streamer.tuning.metrics import exactly_right, measured
from tests.tuning.planted import planted


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("min_score", [0.0, 0.7])
def test_precision_recall_f1(kind: Kind, min_score: float) -> None:
    answers = planted(kind, min_score=min_score)
    assert answers.abstained.any() == (min_score > 0)
    found = measured(answers)
    precision, recall, f1, support = sk.precision_recall_fscore_support(answers.right, answers.given, zero_division=0)
    np.testing.assert_allclose(found.precision[0], precision)
    np.testing.assert_allclose(found.recall[0], recall)
    np.testing.assert_allclose(found.f1[0], f1)
    np.testing.assert_array_equal(found.support[0], support)
    np.testing.assert_array_equal(found.given[0], answers.given.sum(axis=0))
    for average, three in found.averages.items():
        # the last label is neither right nor given, and no part of a mean over labels that are seen
        expected = sk.precision_recall_fscore_support(
            answers.right[:, :-1], answers.given[:, :-1], average=average, zero_division=0
        )
        np.testing.assert_allclose([one[0] for one in three], expected[:3], err_msg=average)
    np.testing.assert_allclose(found.accuracy[0], exactly_right(answers).mean())
    np.testing.assert_allclose(found.answered[0], 1 - answers.abstained.mean())
    sure = ~answers.abstained
    np.testing.assert_allclose(found.accuracy_answered[0], sk.accuracy_score(answers.right[sure], answers.given[sure]))


def test_a_single_facet_equals_multiclass() -> None:
    answers = planted(Kind.SINGLE)
    right, given = answers.right.argmax(axis=1), answers.given.argmax(axis=1)
    found = measured(answers)
    assert found.accuracy[0] == pytest.approx(sk.accuracy_score(right, given))
    assert found.averages["macro"][2][0] == pytest.approx(sk.f1_score(right, given, average="macro"))
    assert found.averages["micro"][2][0] == pytest.approx(found.accuracy[0])
    for k in (1, 3, 5):
        expected = sk.top_k_accuracy_score(right, answers.ranks, k=k, labels=range(6))
        assert found.accuracy_at[k][0] == pytest.approx(expected)
    # over all labels of a record (Brier 1950)
    per_label = [sk.brier_score_loss(answers.right[:, i], answers.scores[:, i], pos_label=True) for i in range(6)]
    assert found.brier[0] == pytest.approx(sum(per_label))


def test_multi_facets() -> None:
    answers = planted(Kind.MULTI)
    found = measured(answers)
    assert found.accuracy[0] == pytest.approx(sk.accuracy_score(answers.right, answers.given))
    per_label = [sk.brier_score_loss(answers.right[:, i], answers.scores[:, i], pos_label=True) for i in range(6)]
    assert found.brier[0] == pytest.approx(np.mean(per_label))


def test_all_abstained_has_no_accuracy_among_answers() -> None:
    found = measured(planted(Kind.SINGLE, min_score=1.0, records=20))
    assert found.answered[0] == 0.0
    assert np.isnan(found.accuracy_answered[0])
    assert np.isnan(interval(found.accuracy_answered)[0])
