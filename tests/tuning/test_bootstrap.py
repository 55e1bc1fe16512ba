"""Resamples are the records drawn again, and intervals hold what they should."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from streamer.facets import Kind
from streamer.tuning.bootstrap import interval, resampled_sums
from streamer.tuning.metrics import columns, exactly_right, figures
from tests.tuning.planted import planted


def test_resamples_are_figures_of_resampled_records() -> None:
    answers = planted(Kind.MULTI, records=50, min_margin=0.05)
    [sums] = resampled_sums([columns(answers)], seed=3, resamples=20)
    many = figures(answers, sums)
    # the same draws, by hand
    drawn = np.random.default_rng(3).integers(0, 50, (20, 50))
    for i, rows in enumerate(drawn):
        right, given = answers.right[rows], answers.given[rows]
        seen = (right | given).any(axis=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = sk.f1_score(right[:, seen], given[:, seen], average="macro")
        assert many.averages["macro"][2][i] == pytest.approx(expected)
        assert many.accuracy[i] == pytest.approx(exactly_right(answers)[rows].mean())


def test_intervals_hold_the_truth() -> None:
    """Of many files drawn from one source, about 95 % have the source's accuracy in their interval."""
    holding = 0
    random = np.random.default_rng(5)
    for seed in range(200):
        hits = (random.random((150, 1)) < 0.7).astype(np.float32)
        [sums] = resampled_sums([hits], seed=seed, resamples=400)
        low, high = interval(sums[:, 0] / 150)
        holding += low <= 0.7 <= high
    assert 180 <= holding <= 199


def test_the_seed_decides() -> None:
    table = columns(planted(Kind.SINGLE, records=100))
    one, same, other = (resampled_sums([table], seed=seed, resamples=5)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_tables_are_resampled_together() -> None:
    table = columns(planted(Kind.SINGLE, records=100))
    first, second = resampled_sums([table, table], seed=1, resamples=5)
    np.testing.assert_array_equal(first, second)


def test_what_is_not_defined_has_no_interval() -> None:
    assert interval(np.array([0.5, np.nan, 0.5])) == (0.5, 0.5)
    assert np.isnan(interval(np.array([np.nan]))).all()
