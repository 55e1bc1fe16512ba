"""A classifier without a model: for tests of everything around the engine, and for load tests of the road.

Enters: documents. Leaves: logits that depend on a text and a label's wording alone, after a set service time.
It is BatchingClassifier over a FakeBackend, so threads, batches and failures are the real ones.

Must not know: torch, Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from streamer.engine.base import ModelInfo, Row
from streamer.engine.scoring import BatchingClassifier
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.records import Document

CHARACTERS_PER_TOKEN = 4


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _mixed(seeds: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Seeds -> numbers spread evenly over -4 .. 4, by the finaliser of splitmix64 (Steele et al. 2014)."""
    mixed = (seeds ^ (seeds >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(11)) * 2.0**-50 - 4.0).astype(np.float32)


class FakeBackend:
    """A Backend whose tokens are four characters each; see FakeClassifier for the arguments."""

    def __init__(
        self,
        *,
        window_tokens: int,
        window_s: float,
        record_s: float,
        sleep: Callable[[float], None],
        out_of_memory: Collection[str],
        failing: Collection[str],
    ) -> None:
        self._window_tokens = window_tokens
        self._window_s = window_s
        self._record_s = record_s
        self._sleep = sleep
        self._out_of_memory = {_digest(text) for text in out_of_memory}
        self._failing = {_digest(text) for text in failing}
        self._labels: dict[str, NDArray[np.uint64]] = {}

    def describe(self) -> ModelInfo:
        return ModelInfo(name="fake", revision="none", device="cpu", dtype="float32", window_tokens=self._window_tokens)

    def prepare(self, label_set: LabelSet) -> None:
        wordings = [label.wording for label in label_set.labels]
        if not wordings:
            raise UsageError(f"label set '{label_set.name}': no labels; name at least one")
        self._labels[label_set.scoring_key] = np.array([_digest(wording) for wording in wordings], dtype=np.uint64)

    def forget(self, scoring_keys: Collection[str]) -> None:
        for key in scoring_keys:
            del self._labels[key]

    def rows(self, documents: Sequence[Document]) -> list[Row]:
        self._sleep(self._window_s)
        return [self._row(index, document) for index, document in enumerate(documents)]

    def _row(self, index: int, document: Document) -> Row:
        kept = document.text[: self._window_tokens * CHARACTERS_PER_TOKEN]
        tokens = -(-len(kept) // CHARACTERS_PER_TOKEN)
        key = document.label_set.scoring_key
        labels = len(self._labels[key])
        return Row(
            document=index,
            first_label=0,
            labels=labels,
            cost_tokens=tokens + labels,
            text_tokens=tokens,
            truncated=len(kept) < len(document.text),
            ids=(_digest(kept),),
            group=key,
        )

    def forward(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        texts = [row.ids[0] for row in rows]
        if not self._out_of_memory.isdisjoint(texts):
            raise RuntimeError("fake device out of memory")
        if not self._failing.isdisjoint(texts):
            raise RuntimeError("fake device failed")
        self._sleep(self._record_s * len(rows))
        seeds = np.zeros((len(rows), max(row.labels for row in rows)), dtype=np.uint64)
        for line, row in zip(seeds, rows, strict=True):
            line[: row.labels] = self._labels[row.group]
        return _mixed(seeds ^ np.array(texts, dtype=np.uint64)[:, None])


class FakeClassifier(BatchingClassifier):
    """Deterministic scores after a set service time.

    A window takes `window_s` seconds plus `record_s` for each record; `sleep` may be replaced by a test's clock.
    A text longer than `window_tokens` (four characters each) is cut. `out_of_memory` and `failing` plant faults:
    a batch holding one of these texts runs out of memory, or fails altogether.
    """

    def __init__(
        self,
        *,
        window_tokens: int,
        max_tokens: int,
        window_s: float,
        record_s: float,
        sleep: Callable[[float], None] = time.sleep,
        out_of_memory: Collection[str] = (),
        failing: Collection[str] = (),
    ) -> None:
        backend = FakeBackend(
            window_tokens=window_tokens,
            window_s=window_s,
            record_s=record_s,
            sleep=sleep,
            out_of_memory=out_of_memory,
            failing=failing,
        )
        super().__init__(
            backend=backend,
            max_tokens=max_tokens,
            batch_cost_tokens=max_tokens,
            device_threads=1,
            set_threads=lambda threads: None,
        )
