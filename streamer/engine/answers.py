"""Logits of a window, gathered batch by batch and handed out by document.

Enters: rows, and logits of some of them at a time. Leaves: one answer per document, in order.
Must not know: models, threads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.engine.base import Row
from streamer.records import Reject, Scores

OUT_OF_MEMORY = Reject("engine_out_of_memory", "the model ran out of memory on this record alone")
NOT_FINITE = Reject("engine_not_finite", "the model's scores for this record are not finite numbers")


class Answers:
    """All logits lie in one flat array; batches of different rows may be put from different threads."""

    def __init__(self, rows: Sequence[Row], documents: int) -> None:
        columns = [(r.document, r.first_label, r.labels, r.text_tokens, r.truncated) for r in rows]
        table = np.array(columns, dtype=np.int64).reshape(-1, 5)
        document, first_label, self._labels = table[:, 0], table[:, 1], table[:, 2]
        sizes = np.zeros(documents, dtype=np.int64)
        np.add.at(sizes, document, self._labels)
        self._ends = sizes.cumsum()  # (documents,): where each one's logits end in the flat array
        self._starts = self._ends - sizes
        self._places = self._starts[document] + first_label  # (rows,): where each row's logits start
        self._facts = np.zeros((documents, 2), dtype=np.int64)  # text tokens, truncated
        np.maximum.at(self._facts, document, table[:, 3:])
        self._flat = np.full(int(sizes.sum()), np.nan, dtype=np.float32)
        self._documents = document
        self._lost: set[int] = set()

    def put(self, batch: Sequence[int], logits: NDArray[np.float32]) -> None:
        """Store logits (rows of the batch, most labels of any)."""
        columns = np.arange(logits.shape[1])
        real = columns < self._labels[batch, None]
        self._flat[(self._places[batch, None] + columns)[real]] = logits[real]

    def give_up(self, row: int) -> None:
        """The document of this row gets no scores."""
        self._lost.add(int(self._documents[row]))

    def scores(self) -> tuple[Scores | Reject, ...]:
        """One answer per document, in order."""
        facts = zip(self._starts.tolist(), self._ends.tolist(), self._facts.tolist(), strict=True)
        answers: list[Scores | Reject] = [
            Scores(self._flat[start:end], tokens, bool(truncated)) for start, end, (tokens, truncated) in facts
        ]
        broken = np.flatnonzero(~np.isfinite(self._flat))
        for document in set(np.searchsorted(self._ends, broken, side="right").tolist()):
            answers[document] = NOT_FINITE
        for document in self._lost:
            answers[document] = OUT_OF_MEMORY
        return tuple(answers)
