"""Labelled records and the logits a model gives them: what evaluation and calibration both begin with.

Enters: a Classifier, a label set, texts, LabelledRecords. Leaves: logits per facet, and `Scored` for each facet: logits
beside what is right. Logits are the model's own: thresholds, abstention and calibration come after them, in `decide`.
Must not know: metrics, files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.app import ACCELERATOR_WINDOW_RECORDS, CPU_WINDOW_RECORDS
from streamer.engine.base import Classifier, Pending
from streamer.errors import FatalError
from streamer.facets import Facet, LabelSet
from streamer.offline import WAIT_S, WINDOWS_UNDER_WAY
from streamer.records import Document, Reject, Scores
from streamer.tables import batched
from streamer.tuning.labelled import LabelledRecords

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scored:
    """One facet of the records whose right labels are known.

    `logits`: float32 (records, labels), columns in the order of `facet.labels`. `right`: bool of the same shape, true
    where the label is right; a single facet has exactly one in a row. `rows`: int64 (records,), where each stands in
    the LabelledRecords.
    """

    facet: Facet
    logits: Logits
    right: NDArray[np.bool_]
    rows: NDArray[np.int64]


def score_records(
    classifier: Classifier, label_set: LabelSet, texts: Sequence[str], progress: Callable[[int], None]
) -> list[Logits]:
    """Logits of every text, float32 (texts, labels) for each facet in the order of the label set.

    Two windows are under way, so the device does not wait; `progress` is told how many texts were just done. Raises
    FatalError where the engine cannot score a text: figures over the rest would not be comparable.
    """
    classifier.warm_up([label_set])
    size = CPU_WINDOW_RECORDS if classifier.describe().device == "cpu" else ACCELERATOR_WINDOW_RECORDS
    under_way: deque[tuple[int, Pending]] = deque()
    logits = np.empty((len(texts), len(label_set.labels)), dtype=np.float32)

    def finish() -> None:
        first, pending = under_way.popleft()
        result = None
        while result is None:
            result = pending.wait(WAIT_S)
        for row, answer in enumerate(result.scores, first):
            logits[row] = _logits(row, answer)
        progress(len(result.scores))

    for number, window in enumerate(batched(texts, size)):
        under_way.append((number * size, classifier.submit([Document(text, label_set) for text in window])))
        if len(under_way) == WINDOWS_UNDER_WAY:
            finish()
    while under_way:
        finish()
    ends = np.cumsum([len(facet.labels) for facet in label_set.facets])
    return np.split(logits, ends[:-1], axis=1)


def _logits(row: int, answer: Scores | Reject) -> Logits:
    if isinstance(answer, Reject):
        raise FatalError(f"text {row + 1} cannot be scored: {answer.message} ({answer.code})")
    return answer.logits


def scored_facets(label_set: LabelSet, records: LabelledRecords, logits: Sequence[Logits]) -> list[Scored]:
    """A Scored for each facet that any record knows the right labels of, in the order of the label set.

    `logits` are those of all records, as `score_records` gives them. A facet that the records were not read for is
    left out too.
    """
    scored = []
    for facet, facet_logits in zip(label_set.facets, logits, strict=True):
        known = [(row, right) for row, right in enumerate(records.right.get(facet.name, ())) if right is not None]
        if known:
            rows = np.array([row for row, _ in known], dtype=np.int64)
            right = np.array([[label.name in names for label in facet.labels] for _, names in known], dtype=np.bool_)
            scored.append(Scored(facet, facet_logits[rows], right, rows))
    return scored
