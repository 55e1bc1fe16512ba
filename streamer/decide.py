"""Scores -> what is decided: labels per facet, abstention, routes.

Enters: logits of documents. Leaves: what was decided of them, by the LabelSet that each document carries.
Scores: sigmoid per label in a multi facet, softmax over the facet's labels in a single one, of logits that went through
the facet's correction where it has one; rounded to what an event shows before anything is decided by them: so whoever
reads an event comes to the same labels and routes.
Must not know: models, Kafka.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from streamer.facets import Facet, Kind, LabelSet, Route
from streamer.records import Decided, Document, FacetColumns, FacetVerdict, Scores, Verdict

Matrix = NDArray[np.float64]
SCORE_DIGITS = 4


def corrected(facet: Facet, logits: NDArray[np.float32] | Matrix) -> Matrix:
    """(documents, labels) logits of one facet as the model gives them -> those that scores are made of."""
    exact = logits.astype(np.float64)
    if facet.correction is None:
        return exact
    return np.asarray(exact * np.array(facet.correction.slopes) + np.array(facet.correction.biases))


def facet_scores(facet: Facet, logits: NDArray[np.float32] | Matrix) -> Matrix:
    """(documents, labels) logits of one facet -> scores of the same shape, in 0..1, with SCORE_DIGITS decimals."""
    return _scores(facet, corrected(facet, logits))


def _scores(facet: Facet, exact: Matrix) -> Matrix:
    if facet.kind is Kind.MULTI:
        # far beyond what is left after rounding, and exp would overflow
        return np.asarray((1.0 / (1.0 + np.exp(-np.clip(exact, -80.0, 80.0)))).round(SCORE_DIGITS))
    shifted = np.exp(exact - exact.max(axis=1, keepdims=True))
    return np.asarray((shifted / shifted.sum(axis=1, keepdims=True)).round(SCORE_DIGITS))


def decide(documents: Sequence[Document], scores: Sequence[Scores]) -> list[Verdict]:
    """Verdicts in the order of the documents; documents of one label set are decided together."""
    groups: dict[int, list[int]] = defaultdict(list)
    for i, document in enumerate(documents):
        groups[id(document.label_set)].append(i)
    verdicts: dict[int, Verdict] = {}
    for members in groups.values():
        decided = decide_alike(documents[members[0]].label_set, [scores[i] for i in members])
        verdicts.update((i, decided.verdict(row)) for row, i in enumerate(members))
    return [verdicts[i] for i in range(len(documents))]


def decide_alike(label_set: LabelSet, scores: Sequence[Scores]) -> Decided:
    """Decide documents of one label set, at least one."""
    # (documents, labels of all facets)
    logits = np.concatenate([one.logits for one in scores]).reshape(len(scores), -1)
    facets, first = [], 0
    for facet in label_set.facets:
        last = first + len(facet.labels)
        facets.append(_facet(facet, logits[:, first:last]))
        first = last
    decided = Decided(label_set, facets, [()] * len(scores), [one.truncated for one in scores])
    if not label_set.routes:
        return decided
    routes = [routes_of(label_set, decided.verdict(row).facets) for row in range(len(scores))]
    return Decided(label_set, facets, routes, decided.truncated)


def margins(facet: Facet, scores: Matrix) -> Matrix:
    """(documents, labels) scores of one facet -> (documents,): how close each decision was, see `Facet.min_margin`."""
    if facet.kind is Kind.MULTI:
        return np.asarray(np.abs(scores - facet.threshold).min(axis=1).round(SCORE_DIGITS))
    best = scores.max(axis=1)
    second = np.partition(scores, -2, axis=1)[:, -2] if scores.shape[1] > 1 else np.zeros_like(best)
    return np.asarray((best - second).round(SCORE_DIGITS))


def doubts(facet: Facet, scores: Matrix) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(documents, labels) scores of one facet -> twice (documents,): whether the best score is below `min_score`,
    whether the margin is below `min_margin`. Either makes the facet abstain."""
    none = np.zeros(len(scores), dtype=np.bool_)  # scores and margins are never below 0
    low = scores.max(axis=1) < facet.min_score if facet.min_score > 0 else none
    close = margins(facet, scores) < facet.min_margin if facet.min_margin > 0 else none
    return low, close


def _facet(facet: Facet, logits: NDArray[np.float32]) -> FacetColumns:
    exact = corrected(facet, logits)
    scores = _scores(facet, exact)
    low, close = doubts(facet, scores)
    labels = _labels(facet, exact, scores)
    abstained = (low | close).tolist()
    for row in np.flatnonzero(low | close).tolist():
        labels[row] = ()
    return FacetColumns(facet, scores, labels, abstained)


def _labels(facet: Facet, logits: Matrix, scores: Matrix) -> list[tuple[str, ...]]:
    """Labels of each document, abstention aside."""
    names = [label.name for label in facet.labels]
    if facet.kind is Kind.SINGLE:
        alone = [(name,) for name in names]
        # of the logits, for rounding makes equals
        return [alone[column] for column in logits.argmax(axis=1).tolist()]
    given = scores >= facet.threshold
    ends = given.sum(axis=1).cumsum().tolist()
    flat = np.array(names, dtype=object)[np.nonzero(given)[1]].tolist()
    return [tuple(flat[first:end]) for first, end in zip([0, *ends], ends, strict=False)]


def holds(route: Route, facet: FacetVerdict) -> bool:
    """Whether a route's rule is met by the verdict of its facet; an abstained facet was given no label."""
    if route.label is None:
        return facet.abstained
    return route.label in facet.labels and facet.scores[route.label] >= route.score


def routes_of(label_set: LabelSet, facets: Sequence[FacetVerdict]) -> tuple[str, ...]:
    """Topics of the routes that hold, in their order and each once; only the first without `all_matching`.

    None of them: the record goes to the stream's own output.
    """
    if not label_set.routes:
        return ()
    by_name = {facet.name: facet for facet in facets}
    matching = (route.to for route in label_set.routes if holds(route, by_name[route.facet]))
    if label_set.all_matching:
        return tuple(dict.fromkeys(matching))
    return tuple(islice(matching, 1))
