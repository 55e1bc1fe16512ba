"""How good labels are: precision, recall, F1, accuracy, Brier score, each from sums over records.

Enters: Answers. Leaves: a Figures for one weighting of the records or for many at once: a bootstrap resample is nothing
but a weighting. What scikit-learn calls the same is the same to the last digit, and the tests hold it so.
Must not know: how records are resampled, how figures are shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.facets import Kind
from streamer.tuning.evaluate_answers import Answers, Flags, Matrix

TOPS = (1, 3, 5)


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one facet, each for every weighting: arrays (weightings,), per label (weightings, labels).

    `precision`, `recall`, `f1`, `support` (right), `given`: per label; 0 where nothing was given or nothing is right.
    `averages`: `macro`, `micro` and `weighted` (by support) -> precision, recall, F1. Macro is the plain mean over
    labels that are right or given at least once.
    `accuracy`: share of records with exactly the right labels, an abstained one being wrong. `answered`: share that
    did not abstain; `accuracy_answered`: the accuracy among those. `accuracy_at` k: share of records with a right
    label that have one among the k best scored; only k below the number of labels.
    `brier`: mean squared distance of scores from 0 and 1; summed over labels in a single facet (0..2, Brier 1950),
    the mean over labels in a multi one (0..1). NaN where nothing is left to divide by.
    """

    precision: Matrix
    recall: Matrix
    f1: Matrix
    support: Matrix
    given: Matrix
    averages: dict[str, tuple[Matrix, Matrix, Matrix]]
    accuracy: Matrix
    answered: Matrix
    accuracy_answered: Matrix
    accuracy_at: dict[int, Matrix]
    brier: Matrix


def exactly_right(answers: Answers) -> Flags:
    """(records,): whether the labels given are just the right ones."""
    return np.asarray((answers.given == answers.right).all(axis=1) & ~answers.abstained)


def squared_errors(answers: Answers) -> Matrix:
    """(records,): each record's part of the Brier score."""
    squares = (answers.scores - answers.right) ** 2
    return np.asarray(squares.sum(axis=1) if answers.facet.kind is Kind.SINGLE else squares.mean(axis=1))


def top_hits(answers: Answers, top: int) -> Flags:
    """(records,): whether a right label is among the `top` best scored; of equals the first ones count."""
    best = np.argsort(-answers.ranks, axis=1, kind="stable")[:, :top]
    return np.asarray(np.take_along_axis(answers.right, best, axis=1).any(axis=1))


def tops(answers: Answers) -> tuple[int, ...]:
    """The k of accuracy@k that can be missed."""
    return tuple(top for top in TOPS if top < len(answers.names))


def columns(answers: Answers) -> NDArray[np.float32]:
    """(records, sums): what figures are made of, to be summed over records by any weights."""
    given, hit, sure = answers.given, exactly_right(answers), ~answers.abstained
    alone = [
        np.ones(len(hit)),
        hit,
        sure,
        squared_errors(answers),
        answers.right.any(axis=1),
        *(top_hits(answers, top) for top in tops(answers)),
    ]
    # (records, labels) each, then (records,) each
    return np.column_stack([answers.right & given, given, answers.right, *alone]).astype(np.float32)


def figures(answers: Answers, sums: Matrix) -> Figures:
    """Figures from sums (weightings, sums) of `columns`."""
    labels = len(answers.names)
    both, given, right = (sums[:, i * labels : (i + 1) * labels] for i in range(3))
    records, hit, sure, squares, some_right, *top = sums[:, 3 * labels :].T
    precision, recall, f1 = _divided(both, given), _divided(both, right), _divided(2 * both, given + right)
    per_label = (precision, recall, f1)
    present = (given + right) > 0
    shares = _divided(right, right.sum(axis=1, keepdims=True))
    all_both, all_given, all_right = both.sum(axis=1), given.sum(axis=1), right.sum(axis=1)
    averages = {
        "macro": tuple(_divided((one * present).sum(axis=1), present.sum(axis=1)) for one in per_label),
        "micro": (_divided(all_both, all_given), _divided(all_both, all_right),
                  _divided(2 * all_both, all_given + all_right)),
        "weighted": tuple((one * shares).sum(axis=1) for one in per_label),
    }  # fmt: skip
    return Figures(
        precision=precision,
        recall=recall,
        f1=f1,
        support=right,
        given=given,
        averages={name: (one[0], one[1], one[2]) for name, one in averages.items()},
        accuracy=hit / records,
        answered=sure / records,
        accuracy_answered=_divided(hit, sure, nothing=np.nan),
        accuracy_at={k: _divided(one, some_right, nothing=np.nan) for k, one in zip(tops(answers), top, strict=True)},
        brier=squares / records,
    )


def measured(answers: Answers) -> Figures:
    """Figures of the records as they are: every array has one weighting."""
    return figures(answers, columns(answers).sum(axis=0, dtype=np.float64)[None])


def _divided(part: Matrix, whole: Matrix, nothing: float = 0.0) -> Matrix:
    whole = np.broadcast_to(whole, part.shape)
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, nothing), where=whole > 0))
