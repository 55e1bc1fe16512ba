"""Weak supervision: what a model is sure of on unlabelled texts, as examples to train it on.

Enters: zero-shot logits of unlabelled texts, asked with the labels' descriptions. Leaves: `Examples`, about as many for
each label, so that a label the model seldom gives is not forgotten.

Must not know: models, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.facets import Facet, Kind
from streamer.tuning.few_shot_data import Examples

SURE_SHARE: Final = 0.5  # of the texts that were given a label, those that were given it most clearly
MOST_PER_LABEL: Final = 32


def sure_examples(facets: Sequence[Facet], texts: Sequence[str], logits: NDArray[np.float32]) -> Examples:
    """The texts with a facet that the model is sure of; logits (texts, labels of all facets).

    Single: for each label, of the texts it is the best for, those where it leads the second by most. Multi: for each
    label, of the texts at or above the facet's threshold those that score highest, and as many of the others that
    score lowest; what is in between stays unknown.
    """
    right = np.zeros(logits.shape, dtype=np.bool_)
    known = np.zeros(logits.shape, dtype=np.bool_)
    first = 0
    for facet in facets:
        here = slice(first, first + len(facet.labels))
        choose = _single if facet.kind is Kind.SINGLE else _multi
        choose(facet, logits[:, here], right[:, here], known[:, here])
        first += len(facet.labels)
    chosen = np.flatnonzero(known.any(axis=1))
    return Examples(tuple(texts), right, known).take(chosen.tolist())


def _single(facet: Facet, logits: NDArray[np.float32], right: NDArray[np.bool_], known: NDArray[np.bool_]) -> None:
    best = logits.argmax(axis=1)
    second = np.partition(logits, -2, axis=1)[:, -2]
    lead = logits.max(axis=1) - second
    for label in range(logits.shape[1]):
        rows = _clearest(np.flatnonzero(best == label), lead)
        right[rows, label] = True
        known[rows] = True


def _multi(facet: Facet, logits: NDArray[np.float32], right: NDArray[np.bool_], known: NDArray[np.bool_]) -> None:
    scores = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    for label in range(logits.shape[1]):
        holds = scores[:, label] >= facet.threshold
        for rows, clear in ((np.flatnonzero(holds), scores[:, label]), (np.flatnonzero(~holds), -scores[:, label])):
            chosen = _clearest(rows, clear)
            right[chosen, label] = holds[chosen]
            known[chosen, label] = True


def _clearest(rows: NDArray[np.int64], clear: NDArray[np.floating]) -> NDArray[np.int64]:
    most = min(MOST_PER_LABEL, int(np.ceil(SURE_SHARE * len(rows))))
    return rows[np.argsort(-clear[rows], kind="stable")[:most]]
