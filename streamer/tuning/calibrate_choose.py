"""How much a facet's scores are corrected: as much as records that had no part in the fit say is worth it.

Enters: one facet's logits, and which labels are right. Leaves: a Fit, with what its correction makes of every record
when that record is left out. Must not know: files, models, limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamer.facets import Correction, Kind
from streamer.tuning.calibrate_fit import Matrix, Strength, Truth, apply, fit, identity, log_losses

NOTHING = "none"
# by name, from the most held back to the least; labels that never differ come first
STRENGTHS: dict[Kind, dict[str, Strength]] = {
    Kind.SINGLE: {
        "temperature": Strength(0.0, 0.0),
        "temperature, biases within 0.25": Strength(0.0, 0.25),
        "temperature, biases within 1": Strength(0.0, 1.0),
    },
    Kind.MULTI: {
        "one pair for all labels": Strength(0.0, 0.0),
        "labels within 0.5 of each other": Strength(0.25, 0.5),
        "labels within 1 of each other": Strength(0.25, 1.0),
        "labels within 2 of each other": Strength(0.5, 2.0),
    },
}
FOLDS = 10
SEED = 20  # of the folds: the same rows give the same file


@dataclass(frozen=True, slots=True)
class Fit:
    """A correction fitted on all records, the name of its strength, and (records, labels) corrected logits, each by a
    fit that did not see the record."""

    correction: Correction
    strength: str
    held_out: Matrix


def choose(kind: Kind, logits: Matrix, right: Truth) -> Fit:
    """The correction of the best strength by cross-validated log loss.

    What changes nothing wins unless the best one is better by more than a standard error of the difference: with few
    records, or scores that are right already, a correction would do as much harm as good. `logits` and `right`:
    (records, labels), at least two records.
    """
    labels = logits.shape[1]
    fold_of = np.random.default_rng(SEED).permutation(len(logits)) % FOLDS
    as_is = log_losses(kind, logits, right)
    best: tuple[float, str, Matrix, Matrix] | None = None
    for name, strength in STRENGTHS[kind].items():
        held_out = np.empty_like(logits)
        for fold in np.unique(fold_of):
            out = fold_of == fold
            held_out[out] = apply(fit(kind, logits[~out], right[~out], strength), logits[out])
        losses = log_losses(kind, held_out, right)
        if best is None or losses.mean() < best[0]:
            best = float(losses.mean()), name, losses, held_out
    assert best is not None
    _, name, losses, held_out = best
    gained = as_is - losses
    if gained.mean() <= gained.std(ddof=1) / np.sqrt(len(gained)):
        return Fit(identity(labels), NOTHING, logits)
    return Fit(fit(kind, logits, right, STRENGTHS[kind][name]), name, held_out)
