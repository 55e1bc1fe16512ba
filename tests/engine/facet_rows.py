"""A backend small enough to read: one row per facet, logits that say where they belong."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from streamer.engine.base import ModelInfo, Row, WindowScores
from streamer.engine.scoring import BatchingClassifier
from streamer.errors import UsageError
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Document, Reject, Scores


def label_set(*sizes: int) -> LabelSet:
    """Facets of so many labels."""
    return LabelSet(
        "set",
        tuple(Facet(f"f{i}", Kind.MULTI, tuple(Label(f"{i}.{k}") for k in range(n))) for i, n in enumerate(sizes)),
    )


class FacetRows:
    """A row per facet, costing the text's length; logit = length of the text * 100 + place of the label in the set.

    A batch of more than `most_rows` rows, or with a row of facet `poison` of a text starting with 'p', runs out of
    memory. A text starting with 'n' gets a NaN, one starting with 'x' breaks the model.
    """

    def __init__(self, *, most_rows: int = 1000, poison: int = 0) -> None:
        self.most_rows = most_rows
        self.poison = poison
        self.prepared: list[str] = []
        self.prepared_anew: list[str] = []  # once until it is forgotten
        self.forgotten: list[str] = []
        self.batches: list[int] = []
        self.threads: set[str] = set()

    def describe(self) -> ModelInfo:
        return ModelInfo("rows", "r1", "cpu", "float32", 512)

    def prepare(self, label_set: LabelSet) -> None:
        if label_set.prompt is not None:
            raise UsageError("no prompts here")
        self.prepared.append(label_set.scoring_key)
        if self.prepared_anew.count(label_set.scoring_key) == self.forgotten.count(label_set.scoring_key):
            self.prepared_anew.append(label_set.scoring_key)

    def forget(self, scoring_keys: Collection[str]) -> None:
        self.forgotten += scoring_keys

    def rows(self, documents: Sequence[Document]) -> list[Row]:
        rows = []
        for index, document in enumerate(documents):
            first = 0
            for place, facet in enumerate(document.label_set.facets):
                labels, cost = len(facet.labels), len(document.text)
                ids = (ord(document.text[0]), place)
                rows.append(Row(index, first, labels, cost, cost - place, place == 1, ids, facet.name))
                first += labels
        return rows

    def forward(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        self.threads.add(threading.current_thread().name)
        if len(rows) > self.most_rows or any(tuple(row.ids) == (ord("p"), self.poison) for row in rows):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if any(row.ids[0] == ord("x") for row in rows):
            raise ValueError("weights eaten")
        self.batches.append(len(rows))
        out = np.full((len(rows), max(row.labels for row in rows)), -1.0, dtype=np.float32)
        for line, row in zip(out, rows, strict=True):
            line[: row.labels] = row.cost_tokens * 100 + row.first_label + np.arange(row.labels)
            if row.ids[0] == ord("n"):
                line[0] = np.nan
        return out


def run(classifier: BatchingClassifier, documents: Sequence[Document]) -> WindowScores:
    window = classifier.submit(documents).wait(10.0)
    assert window is not None
    return window


def expected(document: Document) -> list[float]:
    return [len(document.text) * 100.0 + place for place in range(len(document.label_set.labels))]


def check(documents: Sequence[Document], answers: Sequence[Scores | Reject]) -> None:
    for document, answer in zip(documents, answers, strict=True):
        assert isinstance(answer, Scores)
        assert answer.logits.dtype == np.float32
        assert answer.logits.tolist() == expected(document)
