"""Our engine against gliclass: the same checkpoint, texts, device and torch threads, in one process, by turns.

Enters: the shape of a checkpoint and how much to measure. Leaves: records per second of both, and how far their
decisions agree. Each side goes from texts to labels, tokenising included, one row for each text and facet.
Must not know: how gliclass is called (see `reference.py`), Kafka.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from streamer.app import build_classifier
from streamer.bench.reference import EncoderShape, Reference, save_checkpoint
from streamer.bench.texts import bench_labels, bench_texts
from streamer.engine.base import Classifier, ModelInfo
from streamer.engine.devices import choose_device
from streamer.errors import FatalError
from streamer.facets import Facet, Kind, LabelSet
from streamer.offline import classify_texts
from streamer.records import FacetVerdict, Verdict
from streamer.settings import ModelSettings
from streamer.terminal import Advance

NOISE = 0.02  # rounding may move a score so far: a decision may differ where the reference's margin is no larger
WARM_UP_TEXTS = 16


@dataclass(frozen=True, slots=True)
class Agreement:
    """How our verdicts compare with the reference's scores.

    `same`: share of decisions (one a text and facet) that are equal. `within_noise`: the same, counting those too
    that differ only in labels for which the reference's margin is at most NOISE. `most_apart`: largest difference of
    a score.
    """

    same: float
    within_noise: float
    most_apart: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Medians in records per second; `float32` is our engine in gliclass's number format."""

    gliclass_version: str
    dtype: str
    gliclass_records_per_s: float
    streamer_records_per_s: float
    streamer_float32_records_per_s: float
    agreement: Agreement
    agreement_float32: Agreement

    @property
    def ratio(self) -> float:
        return self.streamer_records_per_s / self.gliclass_records_per_s

    @property
    def ratio_float32(self) -> float:
        return self.streamer_float32_records_per_s / self.gliclass_records_per_s

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare_engines(
    *,
    version: str,
    shape: EncoderShape,
    model: ModelSettings,
    records: int,
    rounds: int,
    advance: Advance,
    clock: Callable[[], float] = perf_counter,
) -> Comparison:
    """Time `rounds` rounds of `records` texts each; `model` gives device and dtype. `advance` is told texts done."""
    with tempfile.TemporaryDirectory() as name:
        save_checkpoint(Path(name), shape)
        reference = Reference(Path(name), choose_device(model.device))
        ours = {dtype: _open(Path(name), model, dtype) for dtype in dict.fromkeys((model.dtype, "float32"))}
        try:
            labels = bench_labels()
            sides: dict[str, Callable[[Sequence[str]], object]] = {
                "gliclass": lambda texts: reference.label(texts, labels),
                **{dtype: _labeller(one, labels) for dtype, one in ours.items()},
            }
            seconds = _by_turns(sides, records, rounds, advance, clock)
            speed = {side: records / median(times) for side, times in seconds.items()}
            texts = bench_texts(records, seed=0)
            expected = reference.scores(texts, labels)
            agreement = {dtype: agree(_verdicts(one, labels, texts), expected, labels) for dtype, one in ours.items()}
            return Comparison(
                gliclass_version=version,
                dtype=ours[model.dtype].describe().dtype,
                gliclass_records_per_s=speed["gliclass"],
                streamer_records_per_s=speed[model.dtype],
                streamer_float32_records_per_s=speed["float32"],
                agreement=agreement[model.dtype],
                agreement_float32=agreement["float32"],
            )
        finally:
            for one in ours.values():
                one.close()
