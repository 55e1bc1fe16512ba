"""Logits whose right correction is known: labels are drawn from scores that are right, then logits are bent."""

from __future__ import annotations

import numpy as np

from streamer.facets import Facet, Kind, Label
from streamer.tuning.calibrate_fit import Matrix, Truth
from streamer.tuning.scored import Scored

LABELS = 5


def bent(kind: Kind, *, records: int, slope: float, bias: float = 0.0, seed: int = 1) -> tuple[Matrix, Truth]:
    """(records, labels) logits that are `slope` times too steep and `bias` too high, and what is right."""
    random = np.random.default_rng(seed)
    exact = random.normal(-0.5, 1.5, (records, LABELS))
    if kind is Kind.MULTI:
        right = random.random(exact.shape) < 1.0 / (1.0 + np.exp(-exact))
    else:
        # the highest of logits with Gumbel noise is a draw from their softmax
        right = np.eye(LABELS, dtype=np.bool_)[(exact + random.gumbel(size=exact.shape)).argmax(axis=1)]
    return slope * exact + bias, right


def scored(kind: Kind, logits: Matrix, right: Truth) -> Scored:
    """The same as one facet of records."""
    facet = Facet("f", kind, tuple(Label(f"label {i}") for i in range(LABELS)))
    return Scored(facet, logits.astype(np.float32), right, np.arange(len(right)))
