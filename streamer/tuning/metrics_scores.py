"""How far scores can be trusted: reliability, expected calibration error, ranking, coverage against accuracy.

Enters: Answers. Leaves: numbers. Must not know: how they are shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from streamer.decide import margins
from streamer.tuning.evaluate_answers import Answers, Flags, Matrix

BINS = 10
COVERAGE_STEPS = 20


@dataclass(frozen=True, slots=True)
class Bin:
    """Records of about the same score: what they scored on average, and the share that was right."""

    records: int
    mean_score: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """With the setting at `at`, this share of records is answered, and this share of the answers is exactly right."""

    at: float
    coverage: float
    accuracy: float


def equal_mass_bins(scores: Matrix, right: Flags, bins: int = BINS) -> tuple[Bin, ...]:
    """Reliability of scores (n,) that claim something (n,): bins of as equal a number as can be, by rising score.

    Fewer than `bins` where there are fewer scores.
    """
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return tuple(Bin(len(part), float(scores[part].mean()), float(right[part].mean())) for part in parts)


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Expected calibration error: distance of mean score and accuracy, averaged over records (Naeini et al. 2015)."""
    records = sum(one.records for one in bins)
    return sum(one.records * abs(one.mean_score - one.accuracy) for one in bins) / records


def top_label(scores: Matrix, right: Flags) -> tuple[Matrix, Flags]:
    """(records, labels) scores and what is right -> the best score of each record, and whether its label is right."""
    best = scores.argmax(axis=1)[:, None]
    return np.take_along_axis(scores, best, axis=1)[:, 0], np.take_along_axis(right, best, axis=1)[:, 0]


def average_precisions(answers: Answers) -> tuple[float, ...]:
    """Average precision of each label's ranking of the records; NaN for a label that is never right."""
    return tuple(
        float(average_precision_score(right, ranks)) if right.any() else float("nan")
        for right, ranks in zip(answers.right.T, answers.ranks.T, strict=True)
    )


def mean_defined(values: tuple[float, ...]) -> float:
    """The plain mean of what is no NaN; NaN where nothing is left. Of average precisions: mAP."""
    defined = [one for one in values if not np.isnan(one)]
    return sum(defined) / len(defined) if defined else float("nan")


def coverage_by_score(answers: Answers) -> tuple[CoveragePoint, ...]:
    """What `min_score` would bring."""
    return _coverage(answers, answers.scores.max(axis=1))


def coverage_by_margin(answers: Answers) -> tuple[CoveragePoint, ...]:
    """What `min_margin` would bring."""
    return _coverage(answers, margins(answers.facet, answers.scores))


def _coverage(answers: Answers, certainty: Matrix) -> tuple[CoveragePoint, ...]:
    """Points from all records down to the surest twentieth. Records that are equally sure stay together, as they do
    under a setting."""
    hit = (answers.guessed == answers.right).all(axis=1)
    # (distinct values,), falling; how many records are at least so sure, and how many of those are right
    values, inverse = np.unique(-certainty, return_inverse=True)
    records: NDArray[np.int64] = np.bincount(inverse).cumsum()
    hits = np.bincount(inverse, weights=hit).cumsum()
    wanted = np.arange(COVERAGE_STEPS, 0, -1) / COVERAGE_STEPS * len(hit)
    last = len(values) - 1
    chosen = dict.fromkeys(int(min(one, last)) for one in np.searchsorted(records, wanted - 1e-9))
    return tuple(
        CoveragePoint(float(-values[i]), float(records[i] / len(hit)), float(hits[i] / records[i])) for i in chosen
    )
