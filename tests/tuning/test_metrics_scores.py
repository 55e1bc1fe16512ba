"""Trust in scores: calibration error, ranking, coverage."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from streamer.facets import Kind
from streamer.tuning.metrics import measured
from streamer.tuning.metrics_scores import (
    average_precisions,
    calibration_error,
    coverage_by_margin,
    coverage_by_score,
    equal_mass_bins,
    top_label,
)
from tests.tuning.planted import planted


def test_average_precision() -> None:
    answers = planted(Kind.MULTI)
    precisions = average_precisions(answers)
    assert np.isnan(precisions[-1])
    assert np.mean(precisions[:-1]) == pytest.approx(
        sk.average_precision_score(answers.right[:, :-1], answers.ranks[:, :-1], average="macro")
    )


def test_calibration_error_of_a_perfect_and_a_sure_model() -> None:
    random = np.random.default_rng(2)
    scores = random.random(20_000)
    right = random.random(20_000) < scores
    bins = equal_mass_bins(scores, right)
    assert [one.records for one in bins] == [2000] * 10
    assert calibration_error(bins) < 0.02
    sure = equal_mass_bins(np.ones(1000), np.arange(1000) % 4 == 0)
    assert calibration_error(sure) == pytest.approx(0.75)


def test_calibration_error_by_hand() -> None:
    bins = equal_mass_bins(np.array([0.9, 0.2, 0.6]), np.array([True, False, False]), bins=2)
    assert [(one.records, one.accuracy) for one in bins] == [(2, 0.0), (1, 1.0)]
    assert calibration_error(bins) == pytest.approx((2 * 0.4 + 0.1) / 3)
    assert len(equal_mass_bins(np.array([0.9]), np.array([True]))) == 1


def test_top_label() -> None:
    scores = np.array([[0.2, 0.8], [0.6, 0.4]])
    best, right = top_label(scores, np.array([[False, True], [False, True]]))
    assert best.tolist() == [0.8, 0.6]
    assert right.tolist() == [True, False]


@pytest.mark.parametrize("setting", ["min_score", "min_margin"])
@pytest.mark.parametrize("kind", list(Kind))
def test_coverage_is_what_the_setting_brings(kind: Kind, setting: str) -> None:
    points = (coverage_by_score if setting == "min_score" else coverage_by_margin)(planted(kind))
    assert points[0].coverage == 1.0
    assert len(points) > 10
    for point in points[::4]:
        limits = {"min_score": 0.0, "min_margin": 0.0, setting: point.at}
        found = measured(planted(kind, min_score=limits["min_score"], min_margin=limits["min_margin"]))
        assert found.answered[0] == pytest.approx(point.coverage)
        assert found.accuracy_answered[0] == pytest.approx(point.accuracy)
