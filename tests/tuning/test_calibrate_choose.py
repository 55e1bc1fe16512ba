"""The strength of a correction: it helps where scores are wrong, and does no harm where they are right."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.facets import Kind
from streamer.tuning.calibrate_choose import NOTHING, choose
from streamer.tuning.calibrate_fit import Matrix, Truth, apply, identity, log_losses
from streamer.tuning.metrics_scores import calibration_error, equal_mass_bins, top_label
from tests.tuning.miscalibrated import LABELS, bent


def error(kind: Kind, exact: Matrix, right: Truth) -> float:
    """Expected calibration error of the best score."""
    scores = 1.0 / (1.0 + np.exp(-exact))
    if kind is Kind.SINGLE:
        scores = np.exp(exact - exact.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    return calibration_error(equal_mass_bins(*top_label(scores, right)))


@pytest.mark.parametrize(("records", "most"), [(50, 0.13), (200, 0.06)])
@pytest.mark.parametrize(("kind", "slope", "bias"), [(Kind.SINGLE, 3.0, 0.0), (Kind.MULTI, 2.0, 1.0)])
def test_a_miscalibrated_model_is_mended(kind: Kind, slope: float, bias: float, records: int, most: float) -> None:
    for seed in range(5):
        logits, right = bent(kind, records=4000, slope=slope, bias=bias, seed=seed)
        found = choose(kind, logits[:records], right[:records])
        kept, truth = logits[records:], right[records:]
        after = apply(found.correction, kept)
        assert error(kind, kept, truth) > 0.15
        assert error(kind, after, truth) < most
        assert log_losses(kind, after, truth).mean() < log_losses(kind, kept, truth).mean()


@pytest.mark.parametrize("records", [50, 200])
@pytest.mark.parametrize("kind", list(Kind))
def test_a_calibrated_model_is_not_harmed(kind: Kind, records: int) -> None:
    untouched = 0
    for seed in range(8):
        logits, right = bent(kind, records=3000, slope=1.0, seed=seed)
        found = choose(kind, logits[:records], right[:records])
        kept, truth = logits[records:], right[records:]
        after = apply(found.correction, kept)
        lost = log_losses(kind, after, truth).mean() / log_losses(kind, kept, truth).mean()
        assert lost < 1.05
        assert error(kind, after, truth) < error(kind, kept, truth) + 0.04
        untouched += found.strength == NOTHING
    assert untouched >= 6


def test_held_out_logits_come_from_fits_that_did_not_see_them() -> None:
    logits, right = bent(Kind.SINGLE, records=60, slope=3.0)
    found = choose(Kind.SINGLE, logits, right)
    assert found.held_out.shape == logits.shape
    assert not np.allclose(found.held_out, apply(found.correction, logits))
    np.testing.assert_allclose(found.held_out, apply(found.correction, logits), atol=2.0)


def test_the_same_records_give_the_same_correction() -> None:
    logits, right = bent(Kind.MULTI, records=60, slope=2.0)
    assert choose(Kind.MULTI, logits, right).correction == choose(Kind.MULTI, logits, right).correction


def test_labels_that_say_nothing_are_left_alone() -> None:
    right = np.zeros((40, LABELS), dtype=np.bool_)
    right[:, 0] = True
    logits = np.zeros((40, LABELS))
    logits[:, 0] = 30.0
    found = choose(Kind.SINGLE, logits, right)
    assert (found.strength, found.correction) == (NOTHING, identity(LABELS))
