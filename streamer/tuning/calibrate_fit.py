"""Slopes and biases of logits that make scores mean what they say, by penalised maximum likelihood.

Enters: logits of one facet, and which labels are right. Leaves: a Correction. Every fit begins at "as it is" and is
held there by normal priors, so that few records move it little: one slope for all labels and a bias each where exactly
one label is right (temperature scaling, Guo et al. 2017), and for any number of labels a slope and a bias each (Platt
1999), drawn to a pair that all share. Solved by Fisher scoring with halved steps: the priors make it well posed for
perfectly separated labels, and for labels that never hold. Must not know: files, models, how much shrinking is right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamer.facets import Correction, Kind

Matrix: TypeAlias = NDArray[np.float64]
Truth: TypeAlias = NDArray[np.bool_]

# standard deviations of the priors: of the logarithm of a shared slope, and of a shared bias
SLOPE_SD, BIAS_SD = 1.5, 3.0
MOST_STEPS = 100
HALVINGS = 30
SMALL_STEP = 1e-9
LONGEST_STEP = 2.0  # of the logarithm of a slope or of a bias, so that no step leaves the region where it is right


@dataclass(frozen=True, slots=True)
class Strength:
    """How far labels may differ: standard deviations of what is each label's own, around what all share.

    `slope_sd` is of the logarithm of a slope, and 0 in a single facet. 0 for both is one slope for all labels and, in
    a multi facet, one bias for all.
    """

    slope_sd: float
    bias_sd: float


def softplus(values: Matrix) -> Matrix:
    """log(1 + exp(values)), without overflow."""
    return np.asarray(np.logaddexp(0.0, values))


def log_losses(kind: Kind, exact: Matrix, right: Truth) -> Matrix:
    """(records, labels) corrected logits -> (records,): minus the logarithm of what the scores gave to the truth,
    summed over the labels of a multi facet."""
    if kind is Kind.MULTI:
        return np.asarray((softplus(exact) - right * exact).sum(axis=1))
    highest = exact.max(axis=1)
    spread = np.log(np.exp(exact - highest[:, None]).sum(axis=1)) + highest
    return np.asarray(spread - (exact * right).sum(axis=1))


def identity(labels: int) -> Correction:
    """The correction that changes nothing."""
    return Correction((1.0,) * labels, (0.0,) * labels)


def apply(correction: Correction, logits: Matrix) -> Matrix:
    """(records, labels) logits -> corrected ones."""
    return np.asarray(logits * np.array(correction.slopes) + np.array(correction.biases))


def fit(kind: Kind, logits: Matrix, right: Truth, strength: Strength) -> Correction:
    """The correction of (records, labels) logits whose penalised likelihood is the highest."""
    if kind is Kind.SINGLE:
        return _fit_single(logits, right, strength)
    return _fit_multi(logits, right, strength)


def _fit_single(logits: Matrix, right: Truth, strength: Strength) -> Correction:
    """Parameters: the logarithm of the slope, then a bias for each label, where they may have one."""
    labels = logits.shape[1]
    free = labels if strength.bias_sd else 0
    precision = np.array([SLOPE_SD**-2] + [strength.bias_sd**-2] * free if free else [SLOPE_SD**-2])

    def corrected(values: Matrix) -> Matrix:
        return np.asarray(np.exp(values[0]) * logits + (values[1:] if free else 0.0))

    def loss(values: Matrix) -> float:
        return float(log_losses(Kind.SINGLE, corrected(values), right).sum() + 0.5 * (precision * values**2).sum())

    def step(values: Matrix) -> Matrix:
        scaled = np.exp(values[0]) * logits
        exact = corrected(values)
        shares = np.exp(exact - exact.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        wrong = shares - right
        mean = (shares * scaled).sum(axis=1, keepdims=True)
        by_slope = shares * (scaled - mean)  # (records, labels): how scores move with the slope
        gradient = precision * values
        gradient[0] += (wrong * scaled).sum()
        information = np.diag(precision)
        information[0, 0] += (by_slope * scaled).sum()
        if free:
            gradient[1:] += wrong.sum(axis=0)
            information[0, 1:] += by_slope.sum(axis=0)
            information[1:, 0] = information[0, 1:]
            information[1:, 1:] += np.diag(shares.sum(axis=0)) - shares.T @ shares
        return np.asarray(np.linalg.solve(information, gradient))

    found = _minimise(np.zeros(1 + free), loss, step)
    biases = found[1:] if free else np.zeros(labels)
    return _correction(np.full(labels, np.exp(found[0])), biases)


def _fit_multi(logits: Matrix, right: Truth, strength: Strength) -> Correction:
    """Parameters (1 + labels, 2): logarithm of the slope and bias that all share, and each label's distance from it.

    A label's own pair meets the others in the shared one alone, so the step is solved label by label, with the shared
    part by its Schur complement: the cost grows with the labels, not with their cube.
    """
    labels = logits.shape[1]
    own = bool(strength.slope_sd and strength.bias_sd)
    shared_precision = np.array([SLOPE_SD**-2, BIAS_SD**-2])
    own_precision = np.array([strength.slope_sd**-2, strength.bias_sd**-2]) if own else np.zeros(2)

    def corrected(values: Matrix) -> Matrix:
        pairs = values[0] + values[1:]
        return np.asarray(np.exp(pairs[:, 0]) * logits + pairs[:, 1])

    def loss(values: Matrix) -> float:
        penalty = (shared_precision * values[0] ** 2).sum() + (own_precision * values[1:] ** 2).sum()
        return float(log_losses(Kind.MULTI, corrected(values), right).sum() + 0.5 * penalty)

    def step(values: Matrix) -> Matrix:
        scaled = np.exp(values[0, 0] + values[1:, 0]) * logits
        scores = 1.0 / (1.0 + np.exp(-np.clip(corrected(values), -80.0, 80.0)))
        wrong, weight = scores - right, scores * (1.0 - scores)
        slopes, both, biases = ((weight * scaled**power).sum(axis=0) for power in (2, 1, 0))
        gradient = np.stack([(wrong * scaled).sum(axis=0), wrong.sum(axis=0)], axis=1)  # (labels, 2)
        information = np.stack([slopes, both, both, biases], axis=1).reshape(labels, 2, 2)
        shared_gradient = gradient.sum(axis=0) + shared_precision * values[0]
        shared = information.sum(axis=0) + np.diag(shared_precision)
        out = np.zeros_like(values)
        if not own:
            out[0] = np.linalg.solve(shared, shared_gradient)
            return out
        penalised = information + np.diag(own_precision)
        own_gradient = gradient + own_precision * values[1:]
        inner = np.linalg.solve(penalised, information)  # (labels, 2, 2)
        aside = np.linalg.solve(penalised, own_gradient[:, :, None])[:, :, 0]
        schur = shared - (information @ inner).sum(axis=0)
        out[0] = np.linalg.solve(schur, shared_gradient - (information @ aside[:, :, None])[:, :, 0].sum(axis=0))
        out[1:] = aside - inner @ out[0]
        return out

    found = _minimise(np.zeros((1 + labels, 2)), loss, step)
    pairs = found[0] + found[1:]
    return _correction(np.exp(pairs[:, 0]), pairs[:, 1])


def _minimise(start: Matrix, loss: Callable[[Matrix], float], step: Callable[[Matrix], Matrix]) -> Matrix:
    """Fisher scoring: `step` is what a quadratic made of the information would subtract; halved until `loss` falls."""
    values, now = start, loss(start)
    for _ in range(MOST_STEPS):
        move = step(values)
        move *= min(1.0, LONGEST_STEP / max(float(np.abs(move).max()), SMALL_STEP))
        for _ in range(HALVINGS):
            then = loss(values - move)
            if then <= now:
                break
            move = move / 2
        else:
            return values
        values = values - move
        if np.abs(move).max() < SMALL_STEP or now - then <= SMALL_STEP * abs(now):
            return values
        now = then
    return values


def _correction(slopes: Matrix, biases: Matrix) -> Correction:
    """With as many digits as a file shows, so that what is measured is what is written."""
    return Correction(tuple(float(f"{x:.6g}") for x in slopes), tuple(float(f"{x:.6g}") for x in biases))
