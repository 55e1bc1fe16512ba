"""A facet's calibration: what is written of it is what was measured, and what `decide` will do."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.errors import UsageError
from streamer.facets import Kind, LabelSet
from streamer.tuning.calibrate import MOST_ROWS, Wanted, calibrate_facet, quality
from streamer.tuning.calibrate_choose import NOTHING
from streamer.tuning.calibrate_goals import parse_goals
from tests.tuning.miscalibrated import LABELS, bent, scored

NOTHING_WANTED = Wanted(None, None)


def wanted(text: str, kind: Kind, accuracy: float | None = None) -> Wanted:
    one = scored(kind, *bent(kind, records=1, slope=1.0))
    return Wanted(parse_goals([text], LabelSet("l", (one.facet,)))["f"], accuracy)


@pytest.mark.parametrize(("kind", "bias"), [(Kind.SINGLE, 0.0), (Kind.MULTI, 1.0)])
def test_before_and_after(kind: Kind, bias: float) -> None:
    found = calibrate_facet(scored(kind, *bent(kind, records=400, slope=3.0, bias=bias)), NOTHING_WANTED)
    assert found.after.log_loss < found.before.log_loss
    assert found.after.calibration_error < found.before.calibration_error
    assert (found.threshold, found.min_score, found.min_margin, found.goal) == (None, None, None, None)
    assert found.rows == 400
    assert all(one.slope == pytest.approx(1 / 3, rel=0.3) for one in found.labels.values())


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_promised_holds_on_other_records(kind: Kind) -> None:
    """Cross-validated figures are about those of fresh records."""
    logits, right = bent(kind, records=8000, slope=2.0)
    found = calibrate_facet(scored(kind, logits[:400], right[:400]), NOTHING_WANTED)
    fits = list(found.labels.values())
    exact = logits[400:] * np.array([one.slope for one in fits]) + np.array([one.bias for one in fits])
    fresh = quality(scored(kind, logits, right).facet, exact, right[400:])
    assert fresh.log_loss == pytest.approx(found.after.log_loss, rel=0.1)
    assert fresh.f1 == pytest.approx(found.after.f1, abs=0.06)
    assert fresh.calibration_error < 0.06


def test_limits_are_chosen_for_corrected_scores() -> None:
    found = calibrate_facet(
        scored(Kind.MULTI, *bent(Kind.MULTI, records=600, slope=3.0, bias=1.0)),
        wanted("precision>=0.8", Kind.MULTI, accuracy=0.1),
    )
    assert found.after.precision is not None
    assert found.after.precision >= 0.8
    assert found.threshold is not None
    assert found.min_margin is None  # reached without
    assert found.goal == "precision>=0.8, accuracy>=0.1"


def test_a_single_facet_abstains_for_its_goal() -> None:
    found = calibrate_facet(
        scored(Kind.SINGLE, *bent(Kind.SINGLE, records=600, slope=3.0)), wanted("precision>=0.75", Kind.SINGLE)
    )
    assert found.min_score is not None
    assert found.threshold is None
    assert found.after.accuracy is not None
    assert found.after.accuracy >= 0.75
    assert 0 < found.after.abstained < 1


def test_scores_that_are_right_stay() -> None:
    found = calibrate_facet(scored(Kind.SINGLE, *bent(Kind.SINGLE, records=60, slope=1.0)), NOTHING_WANTED)
    assert found.shrinkage == NOTHING
    assert {(one.slope, one.bias) for one in found.labels.values()} == {(1.0, 0.0)}
    assert found.before == found.after


def test_a_goal_out_of_reach() -> None:
    with pytest.raises(UsageError, match=r"^facet 'f': no threshold reaches precision 0\.99"):
        calibrate_facet(
            scored(Kind.MULTI, *bent(Kind.MULTI, records=25, slope=1.0)), wanted("precision>=.99", Kind.MULTI)
        )


def test_nothing_given_has_no_precision() -> None:
    logits, right = bent(Kind.MULTI, records=30, slope=1.0)
    found = quality(scored(Kind.MULTI, logits, right).facet, np.full_like(logits, -9.0), right)
    assert (found.precision, found.recall, found.f1) == (None, 0.0, 0.0)


def test_a_huge_file_is_sampled() -> None:
    found = calibrate_facet(scored(Kind.SINGLE, *bent(Kind.SINGLE, records=MOST_ROWS + 500, slope=2.0)), NOTHING_WANTED)
    assert found.rows == MOST_ROWS + 500
    assert len(found.labels) == LABELS
