"""What a label set answers to labelled records, as matrices: the input of every metric.

Enters: a label set, `Scored` facets. Leaves: `Answers`, one for each facet. Labels and abstention are those of
`decide`, so calibration, thresholds and margins count as they do on the road. Must not know: models, metrics, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamer.decide import corrected, decide, facet_scores
from streamer.facets import Facet, LabelSet
from streamer.records import Document, FacetVerdict, Scores
from streamer.tables import batched
from streamer.tuning.scored import Scored

DECIDED_TOGETHER = 4096

Flags = NDArray[np.bool_]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answers:
    """One facet's answers to the records whose right labels are known; shapes (records, labels) unless said.

    `right`: labels that people say hold. `guessed`: labels given if the facet never abstained. `abstained`
    (records,). `scores`: as events show them. `ranks`: corrected logits, which tell apart what rounding makes equal.
    `rows` (records,): where each record stands in the file.
    """

    facet: Facet
    right: Flags
    guessed: Flags
    abstained: Flags
    scores: Matrix
    ranks: Matrix
    rows: NDArray[np.int64]

    @property
    def given(self) -> Flags:
        """The labels an event would hold."""
        return self.guessed & ~self.abstained[:, None]

    @property
    def names(self) -> tuple[str, ...]:
        """Label names in the order of the columns."""
        return tuple(label.name for label in self.facet.labels)


def answer(scored: Scored) -> Answers:
    """What `decide` makes of one facet's logits."""
    facet = scored.facet
    sure = replace(facet, min_score=0.0, min_margin=0.0)
    guessed, abstained = _decided(sure, scored.logits)
    if facet != sure:
        _, abstained = _decided(facet, scored.logits)
    return Answers(
        facet=facet,
        right=scored.right,
        guessed=guessed,
        abstained=abstained,
        scores=facet_scores(facet, scored.logits),
        ranks=corrected(facet, scored.logits),
        rows=scored.rows,
    )


def _decided(facet: Facet, logits: NDArray[np.float32]) -> tuple[Flags, Flags]:
    """Labels (records, labels) and abstention (records,) of a facet asked alone: facets do not touch each other."""
    label_set = LabelSet("evaluated", (facet,))
    column = {label.name: i for i, label in enumerate(facet.labels)}
    labels = np.zeros(logits.shape, dtype=np.bool_)
    abstained = np.zeros(len(logits), dtype=np.bool_)
    document = Document("", label_set)
    for rows in batched(range(len(logits)), DECIDED_TOGETHER):
        verdicts = decide([document] * len(rows), [Scores(logits[row], 0, False) for row in rows])
        for row, verdict in zip(rows, verdicts, strict=True):
            _fill(labels[row], verdict.facets[0], column)
            abstained[row] = verdict.facets[0].abstained
    return labels, abstained


def _fill(row: Flags, verdict: FacetVerdict, column: dict[str, int]) -> None:
    row[[column[name] for name in verdict.labels]] = True


def align(answers: Answers, names: Sequence[str]) -> Answers:
    """The same answers with labels in the order of `names`, which are the same ones."""
    order = [answers.names.index(name) for name in names]
    return replace(
        answers,
        facet=replace(answers.facet, labels=tuple(answers.facet.labels[i] for i in order), correction=None),
        right=answers.right[:, order],
        guessed=answers.guessed[:, order],
        scores=answers.scores[:, order],
        ranks=answers.ranks[:, order],
    )
