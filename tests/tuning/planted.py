"""Answers whose quality is known, for tests of what is made of them."""

from __future__ import annotations

import numpy as np

from streamer.facets import Facet, Kind, Label
from streamer.tuning.evaluate_answers import Answers, answer
from streamer.tuning.labelled import LabelledRecords
from streamer.tuning.scored import Scored


def scored(
    kind: Kind,
    *,
    records: int = 400,
    labels: int = 6,
    seed: int = 1,
    signal: float = 2.0,
    min_score: float = 0.0,
    min_margin: float = 0.0,
) -> Scored:
    """Logits that know something of what is right, the more the larger `signal`; the same rows, labels and seed have
    the same right labels and noise. The last label is never right, nor given."""
    random = np.random.default_rng(seed)
    facet = Facet("f", kind, tuple(Label(f"label {i}") for i in range(labels)), 0.5, min_score, min_margin)
    if kind is Kind.SINGLE:
        right = np.eye(labels, dtype=np.bool_)[random.integers(0, labels - 1, records)]
    else:
        right = random.random((records, labels)) < 0.3
        right[:, -1] = False
    logits = (signal * right + random.normal(0.0, 1.5, right.shape) - 0.5).astype(np.float32)
    logits[:, -1] = -20.0
    return Scored(facet, logits, right, np.arange(records))


def planted(
    kind: Kind,
    *,
    records: int = 400,
    labels: int = 6,
    seed: int = 1,
    signal: float = 2.0,
    min_score: float = 0.0,
    min_margin: float = 0.0,
) -> Answers:
    """What a facet answers to `scored` logits."""
    return answer(
        scored(
            kind,
            records=records,
            labels=labels,
            seed=seed,
            signal=signal,
            min_score=min_score,
            min_margin=min_margin,
        )
    )


def records_of(answers: Answers) -> LabelledRecords:
    """Records with the answers' right labels."""
    right = tuple(
        frozenset(name for name, holds in zip(answers.names, row, strict=True) if holds) for row in answers.right
    )
    texts = tuple(f"text {i}" for i in range(len(right)))
    return LabelledRecords(texts, {answers.facet.name: right}, None)
