"""From labelled records and their logits to a calibration: corrections, limits, and how much better they are.

Enters: Scored facets, goals. Leaves: FacetCalibrations, with their quality before and after on records that had no part
in the fit. Must not know: files, models, the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamer.calibration import FacetCalibration, LabelCorrection, Quality
from streamer.decide import facet_scores
from streamer.facets import Facet, Kind
from streamer.tuning.calibrate_choose import choose
from streamer.tuning.calibrate_fit import Matrix, Truth, log_losses
from streamer.tuning.calibrate_goals import Goal, with_accuracy, with_goal
from streamer.tuning.evaluate_answers import answer
from streamer.tuning.metrics import measured
from streamer.tuning.metrics_scores import calibration_error, equal_mass_bins, top_label
from streamer.tuning.scored import Scored

FEWEST_ROWS = 40  # with fewer, one correction in ten does harm
MOST_ROWS = 20_000  # more would tell no more, and take long
SEED = 7  # of the rows taken from more
LIMITS = ("threshold", "min_score", "min_margin")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What limits are to reach; None: they stay as they are. `accuracy` is a share of what is left after abstention."""

    goal: Goal | None
    accuracy: float | None

    @property
    def text(self) -> str | None:
        parts = [self.goal.text] if self.goal is not None else []
        parts += [f"accuracy>={self.accuracy:g}"] if self.accuracy is not None else []
        return ", ".join(parts) or None


def calibrate_facet(scored: Scored, wanted: Wanted) -> FacetCalibration:
    """The calibration of one facet, as the label set has it without one; raises UsageError for a goal out of reach.

    At least FEWEST_ROWS records are needed for it to be of use.
    """
    taken = _sample(scored)
    facet = replace(taken.facet, correction=None)
    logits = taken.logits.astype(np.float64)
    fit = choose(facet.kind, logits, taken.right)
    limited = _limited(facet, wanted, facet_scores(facet, fit.held_out), taken.right)
    corrections = zip(facet.labels, fit.correction.slopes, fit.correction.biases, strict=True)
    changed = {name: getattr(limited, name) for name in LIMITS if getattr(limited, name) != getattr(facet, name)}
    return FacetCalibration(
        kind=facet.kind.value,
        labels={label.name: LabelCorrection(slope=slope, bias=bias) for label, slope, bias in corrections},
        **{name: changed.get(name) for name in LIMITS},
        goal=wanted.text,
        rows=len(scored.rows),
        shrinkage=fit.strength,
        before=quality(facet, logits, taken.right),
        after=quality(limited, fit.held_out, taken.right),
    )


def quality(facet: Facet, exact: Matrix, right: Truth) -> Quality:
    """How good the facet's labels and scores are; `exact`: (records, labels) logits that scores are made of."""
    answers = answer(Scored(replace(facet, correction=None), exact.astype(np.float32), right, np.arange(len(right))))
    found = measured(answers)
    losses = log_losses(facet.kind, exact, right)
    precision, recall, f1 = (float(one[0]) for one in found.averages["micro"])
    answered = bool(found.answered[0])
    return Quality(
        log_loss=_shown(float(losses.mean()) / (len(facet.labels) if facet.kind is Kind.MULTI else 1)),
        calibration_error=_shown(calibration_error(equal_mass_bins(*top_label(answers.scores, right)))),
        accuracy=_shown(float(found.accuracy_answered[0])) if answered else None,
        precision=_shown(precision) if answers.given.any() else None,
        recall=_shown(recall),
        f1=_shown(f1),
        abstained=_shown(1 - float(found.answered[0])),
    )


def _limited(facet: Facet, wanted: Wanted, scores: Matrix, right: Truth) -> Facet:
    if wanted.goal is not None:
        facet = with_goal(facet, wanted.goal, scores, right)
    if wanted.accuracy is not None:
        facet = with_accuracy(facet, wanted.accuracy, scores, right)
    return facet


def _sample(scored: Scored) -> Scored:
    if len(scored.rows) <= MOST_ROWS:
        return scored
    kept = np.sort(np.random.default_rng(SEED).choice(len(scored.rows), MOST_ROWS, replace=False))
    return replace(scored, logits=scored.logits[kept], right=scored.right[kept], rows=scored.rows[kept])


def _shown(value: float) -> float:
    return round(value, 4)
