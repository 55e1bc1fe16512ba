"""The engine's port: documents in, scores out, and nothing of Kafka.

`Classifier` is what the pipeline sees. `Backend` is what a model must offer to be run by `scoring.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.facets import LabelSet
from streamer.records import Document, Reject, Scores


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What every event is stamped with (`name`, `revision`), and what people are shown."""

    name: str
    revision: str
    device: str
    dtype: str
    window_tokens: int  # tokens one row may hold, labels included where they share the window with the text


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """Documents of a window answered without the model, and by it; memory that the cache holds after it."""

    hits: int
    misses: int
    held_bytes: int


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What one window cost. `padded_tokens` counts padding too; times are seconds of work, not of waiting.

    `forward_s` counts the whole device: where batches run side by side on n threads, each counts for 1 / n. `documents`
    are all of the window, the rest counts those that the model saw. `cache` is None where there is none.
    `out_of_memory` counts batches that did not fit, `capacity_tokens` what the others could have held.
    """

    documents: int
    batches: int
    tokens: int
    padded_tokens: int
    tokenise_s: float
    forward_s: float
    cache: CacheFacts | None = None
    out_of_memory: int = 0
    capacity_tokens: int = 0

    @property
    def scored(self) -> int:
        """How many documents the model saw."""
        return self.documents if self.cache is None else self.cache.misses


@dataclass(frozen=True, slots=True)
class WindowScores:
    """Answers in the order of the documents submitted; a document that alone fails is a Reject."""

    scores: tuple[Scores | Reject, ...]
    facts: EngineFacts


class Pending(Protocol):
    """A window under way."""

    def wait(self, timeout_s: float) -> WindowScores | None:
        """The result, or None when it is not there within `timeout_s`. Raises what stopped the engine."""


class Classifier(Protocol):
    """A model held in memory that scores windows of documents, one after the other."""

    def warm_up(self, label_sets: Sequence[LabelSet]) -> None:
        """Prepare label sets and run the model once; raises UsageError for a label set it cannot serve, or whose
        calibration was fitted for another model.

        These are kept ready until others are warmed up. Any other is prepared when it is needed, and kept for a while.
        """

    def submit(self, documents: Sequence[Document]) -> Pending:
        """Queue a window; returns at once. The caller bounds how many windows are under way."""

    def describe(self) -> ModelInfo: ...

    def close(self) -> None:
        """Finish what is queued and let go of the model."""


class Embedder(Protocol):
    """What some models can do beside scoring: tell how alike texts are, or wordings of labels.

    Tools ask for it, the road never does. Driven by one thread.
    """

    @property
    def label_tokens(self) -> int:
        """Tokens of a label's wording that the model reads."""

    def cuts(self, wordings: Sequence[str]) -> list[bool]:
        """Whether each wording of a label is longer than that."""

    def embed(self, texts: Sequence[str], *, most_tokens: int) -> NDArray[np.float32]:
        """Unit vectors (texts, hidden); the dot product of two says how alike the texts are, 1 at most.

        Of each text, the first `most_tokens` tokens are read, or as many as the model has room for.
        """


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence for the model: a document, or one facet of it.

    `document` indexes the window; its logits go to `first_label .. first_label + labels` of that document.
    `cost_tokens` is what the row adds to a device batch. `ids` are the token ids the backend feeds itself with.
    `group` names what the backend shares between rows (a label set, or one facet of it).
    """

    document: int
    first_label: int
    labels: int
    cost_tokens: int
    text_tokens: int
    truncated: bool
    ids: tuple[int, ...] | list[int]
    group: str


class Backend(Protocol):
    """A model seen as rows in, logits out."""

    def describe(self) -> ModelInfo: ...

    def prepare(self, label_set: LabelSet) -> None:
        """Tokenise or encode the label set once; idempotent. Raises UsageError where it cannot be served."""

    def forget(self, scoring_keys: Collection[str]) -> None:
        """Let go of prepared label sets, none of which a row still in use belongs to; others may be in `forward`."""

    def rows(self, documents: Sequence[Document]) -> list[Row]:
        """Tokenise a window: one or more rows per document, in order of documents."""

    def forward(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Score one device batch. Returns logits (rows, most labels of any row); one device-to-host copy.

        May be entered by several threads at once, and while another thread is in `prepare` or `rows`.
        """
