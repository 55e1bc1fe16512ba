"""Do two engines decide the same?

Enters: our verdicts, and the scores that a reference gave the same texts. Leaves: shares of equal decisions.
Must not know: engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamer.facets import Facet, Kind, LabelSet
from streamer.records import Verdict

# rounding to 16 bits moves a score by about so much: where the reference's margin is no larger, decisions may differ
NOISE = 0.02

FacetScores = Mapping[str, float]  # label -> score


@dataclass(frozen=True, slots=True)
class Agreement:
    """One decision is what one facet of one text was given.

    `same`: share of decisions that are equal. `within_noise`: the same, counting those too that differ only in labels
    for which the reference's margin is at most NOISE. `most_apart`: largest difference of a score.
    """

    same: float
    within_noise: float
    most_apart: float


def agreement(
    verdicts: Sequence[Verdict], reference: Sequence[Mapping[str, FacetScores]], label_set: LabelSet
) -> Agreement:
    """Hold verdicts against the reference's scores (facet -> label -> score) of the same texts, in the same order."""
    same = within = decisions = 0
    most_apart = 0.0
    for verdict, by_facet in zip(verdicts, reference, strict=True):
        for facet, ours in zip(label_set.facets, verdict.facets, strict=True):
            theirs = by_facet[facet.name]
            decided, margins = _decide(facet, theirs)
            differing = decided ^ set(ours.labels)
            decisions += 1
            same += not differing
            within += all(margins[label] <= NOISE for label in differing)
            most_apart = max(most_apart, *(abs(ours.scores[label] - score) for label, score in theirs.items()))
    return Agreement(same / decisions, within / decisions, most_apart)


def _decide(facet: Facet, scores: FacetScores) -> tuple[set[str], dict[str, float]]:
    """The labels that hold, and each label's distance from being decided otherwise."""
    if facet.kind is Kind.MULTI:
        margins = {label: abs(score - facet.threshold) for label, score in scores.items()}
        return {label for label, score in scores.items() if score >= facet.threshold}, margins
    top, second = sorted(scores.values(), reverse=True)[:2]
    margins = {label: top - (second if score == top else score) for label, score in scores.items()}
    return {max(scores, key=scores.__getitem__)}, margins
