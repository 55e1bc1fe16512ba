"""Slopes and biases: they find what was planted, and no parameter could do better."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.facets import Correction, Kind
from streamer.tuning.calibrate_fit import BIAS_SD, SLOPE_SD, Strength, apply, fit, identity, log_losses
from tests.tuning.miscalibrated import LABELS, bent

ALONE, OWN = Strength(0.0, 0.0), Strength(0.5, 2.0)


@pytest.mark.parametrize("strength", [ALONE, Strength(0.0, 1.0)])
def test_a_planted_temperature_is_found(strength: Strength) -> None:
    logits, right = bent(Kind.SINGLE, records=20_000, slope=3.0)
    found = fit(Kind.SINGLE, logits, right, strength)
    assert found.slopes == pytest.approx([1 / 3] * LABELS, rel=0.05)
    assert found.biases == pytest.approx([found.biases[0]] * LABELS, abs=0.1)


@pytest.mark.parametrize("strength", [ALONE, OWN])
def test_a_planted_slope_and_bias_are_found(strength: Strength) -> None:
    logits, right = bent(Kind.MULTI, records=20_000, slope=2.0, bias=-1.0)
    found = fit(Kind.MULTI, logits, right, strength)
    assert found.slopes == pytest.approx([0.5] * LABELS, rel=0.05)
    assert found.biases == pytest.approx([0.5] * LABELS, abs=0.1)


def test_labels_that_differ_are_corrected_each_for_itself() -> None:
    logits, right = bent(Kind.MULTI, records=20_000, slope=1.0)
    bend = np.array([0.0, 1.0, -1.0, 2.0, -2.0])
    found = fit(Kind.MULTI, logits + bend, right, OWN)
    assert found.biases == pytest.approx(-bend, abs=0.15)
    assert found.slopes == pytest.approx([1.0] * LABELS, rel=0.1)


@pytest.mark.parametrize("records", [2, 30, 500])
@pytest.mark.parametrize(("kind", "strength"), [(Kind.MULTI, OWN), (Kind.SINGLE, Strength(0.0, 0.25))])
def test_the_penalised_likelihood_is_at_its_top(kind: Kind, strength: Strength, records: int) -> None:
    """No single parameter can be moved to a better place: the fast solution against plain differences."""
    logits, right = bent(kind, records=records, slope=2.0, bias=0.5)
    found = fit(kind, logits, right, strength)

    def loss(slopes: list[float], biases: list[float]) -> float:
        exact = apply(Correction(tuple(slopes), tuple(biases)), logits)
        own = np.stack([np.log(slopes), biases], axis=1)
        if kind is Kind.SINGLE:
            penalty = own[0, 0] ** 2 / SLOPE_SD**2 + (own[:, 1] ** 2).sum() / strength.bias_sd**2
        else:
            prior, spread = np.array([SLOPE_SD, BIAS_SD]) ** -2, np.array([strength.slope_sd, strength.bias_sd]) ** -2
            shared = own.sum(axis=0) * spread / (len(own) * spread + prior)  # the best one for these pairs
            penalty = (prior * shared**2).sum() + (spread * (own - shared) ** 2).sum()
        return float(log_losses(kind, exact, right).sum() + penalty / 2)

    best = loss(list(found.slopes), list(found.biases))
    for step in (-1e-2, 1e-2):
        for label in range(LABELS):
            slopes, biases = list(found.slopes), list(found.biases)
            biases[label] += step
            assert loss(slopes, biases) > best
            if kind is Kind.MULTI:
                slopes[label] *= 1 + step
                assert loss(slopes, list(found.biases)) > best
        assert loss([slope * (1 + step) for slope in found.slopes], list(found.biases)) > best


@pytest.mark.parametrize("kind", list(Kind))
def test_extreme_records_give_finite_corrections(kind: Kind) -> None:
    """Perfectly separated, a label that never holds, logits far out."""
    right = np.eye(LABELS, dtype=np.bool_)[np.arange(40) % (LABELS - 1)]
    for scale in (1.0, 80.0, 1e4):
        found = fit(kind, np.asarray(scale * (2.0 * right - 1), dtype=np.float64), right, OWN)
        assert np.isfinite([*found.slopes, *found.biases]).all()
        assert min(found.slopes) > 0


def test_what_changes_nothing_changes_nothing() -> None:
    logits, _ = bent(Kind.MULTI, records=10, slope=1.0)
    np.testing.assert_array_equal(apply(identity(LABELS), logits), logits)
