"""Differences between variants: right where planted, and as uncertain as the texts, sets and seeds make them."""

from __future__ import annotations

import numpy as np
import pytest

from load_tests.variants.differences import Flags, difference, resampled_f1
from streamer.tuning.data import LabelledSet
from streamer.tuning.evaluate import score_set

NAMES = ("a", "b", "c")


def flags(columns: list[int]) -> Flags:
    return np.eye(3, dtype=np.bool_)[columns]


def test_macro_f1_is_that_of_the_protocol() -> None:
    random = np.random.default_rng(1)
    right, given = random.integers(0, 2, 40).tolist(), random.integers(0, 3, 40).tolist()
    labelled = LabelledSet("set", NAMES, ("t",) * 40, tuple((NAMES[i],) for i in right), False)
    plain, again = resampled_f1(flags(right), [flags(given), flags(right)], seed=1)
    assert plain[0] == pytest.approx(score_set(labelled, [(NAMES[i],) for i in given]).macro_f1)
    assert plain[1] == pytest.approx(2 / 3)  # "c" never occurs
    assert again.shape == (2, 1000)
    assert again[0].mean() == pytest.approx(plain[0], abs=0.03)


def test_a_planted_difference() -> None:
    """One side right throughout, the other in three of four texts, or in another share by seed and set."""
    plain, again = [], []
    for place, share in enumerate((0.75, 0.75, 0.65, 0.85)):  # two seeds of two sets
        right = [0, 1, 2, 1] * 50
        wrong = [column if i < share * 200 else (column + 1) % 3 for i, column in enumerate(right)]
        one, many = resampled_f1(flags(right), [flags(right), flags(wrong)], seed=place)
        plain.append(one)
        again.append(many)
    # (variants, seeds, sets) and (variants, seeds, sets, resamples)
    found = difference(
        np.stack(plain, axis=-1).reshape(2, 2, 2), np.stack(again, axis=1).reshape(2, 2, 2, -1), 0, 1, seed=1
    )
    assert found.by_seed == pytest.approx((0.25, 0.25), abs=0.02)
    assert found.mean == pytest.approx(0.25, abs=0.02)
    assert 0.2 < found.texts[0] < found.mean < found.texts[1] < 0.3
    assert found.everything[0] < found.texts[0] < found.texts[1] < found.everything[1]


def test_no_difference() -> None:
    _, again = resampled_f1(flags([0, 1, 2] * 9), [flags([0, 2, 1] * 9)] * 2, seed=1)
    found = difference(np.full((2, 1, 1), 0.5), again.reshape(2, 1, 1, -1), 0, 1, seed=1)
    assert (found.mean, found.texts, found.everything) == (0.0, (0.0, 0.0), (0.0, 0.0))
