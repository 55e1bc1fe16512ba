"""Thresholds and limits of abstention for a stated goal.

Enters: what a goal is, as the command line says it; a facet's answers to records that had no part in its correction.
Leaves: limits, or one UsageError line when no limit reaches the goal. A wanted share counts as reached where its lower
confidence bound does (Wilson 1927), so that it holds on other records too in about nine cases of ten, and not on these
alone. Must not know: files, models.

What a goal means for a facet:

- `max-f1`: multi: the threshold of the best F1 over all records and labels together. single: the best label is always
  given, which is its best F1 already; nothing is limited.
- `precision>=P`: multi: the lowest threshold from which on the labels given are right at least so often. single: the
  lowest min_score with which they are.
- `cost=FP:A,FN:B`: a label given wrongly costs A, one missed costs B. The least cost of scores that mean what they say
  is had by giving labels from the score A / (A + B) on (Elkan 2001): the threshold of a multi facet, and min_score of a
  single one.
- a wanted accuracy: single: the lowest min_score with which the labels given are right at least so often. multi: the
  lowest min_margin with which records are given exactly the right labels at least so often.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamer.decide import SCORE_DIGITS, margins
from streamer.errors import UsageError
from streamer.facets import Facet, Kind, LabelSet
from streamer.settings_errors import near
from streamer.tuning.calibrate_fit import Matrix, Truth

MAX_F1, PRECISION, COST = "max-f1", "precision", "cost"
FEWEST_DECISIONS = 20  # that a limit may leave: the best of a few is so by luck
# 95 in 100 of a normal distribution lie below; nine in ten limits then keep what they promise, for the lowest of many
# that seem to reach a share is taken, and seeming is partly luck
USUAL_NORMAL = 1.6449
_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_PRECISION = re.compile(rf"precision>={_NUMBER}")
_COST = re.compile(rf"cost=FP:{_NUMBER},FN:{_NUMBER}")
GOALS = "max-f1, precision>=0.9 or cost=FP:1,FN:5"


@dataclass(frozen=True, slots=True)
class Goal:
    """`kind` is one of MAX_F1, PRECISION, COST; `share` is the wanted precision, or the score from which on giving a
    label costs less; `text` is what was asked for."""

    kind: str
    share: float
    text: str


def parse_goals(texts: Sequence[str], label_set: LabelSet) -> dict[str, Goal]:
    """`GOAL` for every facet, or `FACET:GOAL` for one, which wins -> the goal of each facet that has one."""
    names = [facet.name for facet in label_set.facets]
    everywhere: dict[str, Goal] = {}
    alone: dict[str, Goal] = {}
    for text in texts:
        goal = _goal(text)
        if goal is not None:
            _add(everywhere, names, goal)
            continue
        facet, colon, rest = text.partition(":")
        goal = _goal(rest)
        if not colon or goal is None:
            raise UsageError(f"--goal '{text}': no goal; give {GOALS}, with FACET: before it for one facet alone")
        if facet not in names:
            raise UsageError(
                f"--goal '{text}': label set '{label_set.name}' has no facet '{facet}'{near(facet, names)}"
            )
        _add(alone, [facet], goal)
    return everywhere | alone


def _add(goals: dict[str, Goal], names: Sequence[str], goal: Goal) -> None:
    for name in names:
        if name in goals:
            raise UsageError(f"--goal '{goal.text}': facet '{name}' has the goal '{goals[name].text}' already")
        goals[name] = goal


def _goal(text: str) -> Goal | None:
    asked = text.replace(" ", "")
    if asked == MAX_F1:
        return Goal(MAX_F1, 0.0, asked)
    if found := _PRECISION.fullmatch(asked):
        share = float(found[1])
        if not 0 < share < 1:
            raise UsageError(f"--goal '{text}': a precision lies between 0 and 1")
        return Goal(PRECISION, share, asked)
    if found := _COST.fullmatch(asked):
        wrong, missed = float(found[1]), float(found[2])
        if not wrong + missed:
            raise UsageError(f"--goal '{text}': one of the costs must be above 0")
        return Goal(COST, wrong / (wrong + missed), asked)
    return None


def with_goal(facet: Facet, goal: Goal, scores: Matrix, right: Truth) -> Facet:
    """The facet with the limits that the goal asks for. `scores`, `right`: (records, labels)."""
    if facet.kind is Kind.MULTI:
        if goal.kind == COST:
            return replace(facet, threshold=_rounded_up(goal.share))
        if goal.kind == PRECISION:
            where = f"facet '{facet.name}': no threshold reaches precision {goal.share:g}"
            return replace(facet, threshold=lowest(scores.ravel(), right.ravel(), goal.share, where))
        return replace(facet, threshold=_best_f1(scores.ravel(), right.ravel()))
    if goal.kind == COST:
        return replace(facet, min_score=_rounded_up(goal.share))
    return with_accuracy(facet, goal.share, scores, right) if goal.kind == PRECISION else facet


def with_accuracy(facet: Facet, share: float, scores: Matrix, right: Truth) -> Facet:
    """The facet that abstains where it has to for this accuracy; a higher min_score that it has stays."""
    if facet.kind is Kind.SINGLE:
        hit = right[np.arange(len(scores)), scores.argmax(axis=1)]
        where = f"facet '{facet.name}': no min_score reaches accuracy {share:g}"
        return replace(facet, min_score=max(facet.min_score, lowest(scores.max(axis=1), hit, share, where)))
    exact = ((scores >= facet.threshold) == right).all(axis=1)
    where = f"facet '{facet.name}': no min_margin reaches accuracy {share:g}"
    return replace(facet, min_margin=lowest(margins(facet, scores), exact, share, where))


def lowest(values: Matrix, hit: Truth, share: float, where: str) -> float:
    """The lowest limit with which those of (n,) `values` that reach it are a `hit` at least so often, 0 where all
    together do; raises UsageError, which begins with `where`, when there is none."""
    found, counts, hits = _from_the_top(values, hit)
    bound = np.where(counts >= FEWEST_DECISIONS, wilson_bound(hits, counts), 0.0)
    reached = np.flatnonzero(bound >= share)
    if not len(reached):
        best = int(bound.argmax())
        raise UsageError(
            f"{where} for certain (best: {hits[best] / counts[best]:.2f} of {counts[best]:,.0f} decisions, from "
            f"{found[best]:g} on); ask for less, or give more records than {len(values):,} decisions come from"
        )
    last = int(reached[-1])
    return 0.0 if last == len(found) - 1 else float(found[last])


def wilson_bound(hits: Matrix, counts: Matrix) -> Matrix:
    """Lower bound of a share of which `hits` of `counts` were seen."""
    z2 = USUAL_NORMAL**2
    share = hits / counts
    spread = USUAL_NORMAL * np.sqrt(share * (1 - share) / counts + z2 / (4 * counts**2))
    return np.asarray((share + z2 / (2 * counts) - spread) / (1 + z2 / counts))


def _best_f1(values: Matrix, hit: Truth) -> float:
    found, counts, hits = _from_the_top(values, hit)
    best = int((2 * hits / (counts + hit.sum())).argmax())
    below = found[best + 1] if best + 1 < len(found) else found[best]
    return _rounded_up((found[best] + below) / 2)  # between two scores, so that neither decides alone


def _from_the_top(values: Matrix, hit: Truth) -> tuple[Matrix, Matrix, Matrix]:
    """Distinct values, falling; how many reach each; how many of those are hits."""
    found, inverse = np.unique(-values, return_inverse=True)
    counts = np.bincount(inverse).cumsum().astype(np.float64)
    return -found, counts, np.bincount(inverse, weights=hit).cumsum()


def _rounded_up(score: float) -> float:
    """With the digits of a score, which it is compared with."""
    return min(1.0, float(np.ceil(round(score * 10**SCORE_DIGITS, 6)) / 10**SCORE_DIGITS))
