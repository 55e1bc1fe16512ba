"""Our engine against gliclass: the same checkpoint, texts, device and torch threads, in one process, by turns.

Enters: the shape of a checkpoint, and how much to measure. Leaves: records per second of both, and how far their
decisions agree. Each side goes from texts to labels, tokenising included, with a row for each text and facet. A model
of our own architecture and the same encoder shape may take part: what it decides cannot be compared, its speed can.
Must not know: how gliclass is called (see `reference.py`), Kafka.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TypeAlias

from streamer.app import build_classifier
from streamer.bench.agreement import Agreement, agreement
from streamer.bench.reference import EncoderShape, Reference, save_checkpoint
from streamer.bench.texts import bench_labels, bench_texts
from streamer.engine.base import Classifier
from streamer.engine.devices import choose_device
from streamer.errors import FatalError
from streamer.facets import LabelSet
from streamer.offline import classify_texts
from streamer.records import Reject, Verdict
from streamer.settings import ModelSettings
from streamer.terminal import Advance

FLOAT32 = "float32"
OWN_MODEL = "own model"
WARM_UP_TEXTS = 16

Side: TypeAlias = Callable[[Sequence[str]], object]  # labels texts


@dataclass(frozen=True, slots=True)
class Comparison:
    """Medians in records per second. `streamer` runs in `dtype`, `streamer_float32` in gliclass's number format;
    `own_model` is a model of our architecture with the same encoder shape, in `dtype`, None where there is none."""

    gliclass_version: str
    dtype: str
    gliclass_records_per_s: float
    streamer_records_per_s: float
    streamer_float32_records_per_s: float
    own_model_records_per_s: float | None
    agreement: Agreement
    agreement_float32: Agreement

    @property
    def ratio(self) -> float:
        return self.streamer_records_per_s / self.gliclass_records_per_s

    @property
    def ratio_float32(self) -> float:
        return self.streamer_float32_records_per_s / self.gliclass_records_per_s

    @property
    def ratio_own_model(self) -> float | None:
        own = self.own_model_records_per_s
        return None if own is None else own / self.gliclass_records_per_s


def compare_engines(
    *,
    version: str,
    shape: EncoderShape,
    model: ModelSettings,
    own_model: bool,
    records: int,
    rounds: int,
    advance: Advance,
) -> Comparison:
    """Measure `rounds` rounds of `records` texts. `model` gives device and dtype, and takes part itself if `own_model`;
    `advance` is told of texts done."""
    with tempfile.TemporaryDirectory() as name:
        save_checkpoint(Path(name), shape)
        reference = Reference(Path(name), choose_device(model.device))
        engines: dict[str, Classifier] = {}
        try:
            for dtype in dict.fromkeys((model.dtype, FLOAT32)):
                settings = ModelSettings(name=name, device=model.device, dtype=dtype)
                engines[dtype] = build_classifier(settings, max_tokens="auto")
            if own_model:
                engines[OWN_MODEL] = build_classifier(model, max_tokens="auto")
            return _compare(version, reference, engines, model.dtype, records, rounds, advance)
        finally:
            for engine in engines.values():
                engine.close()


def _compare(
    version: str,
    reference: Reference,
    engines: Mapping[str, Classifier],
    dtype: str,
    records: int,
    rounds: int,
    advance: Advance,
) -> Comparison:
    labels = bench_labels()
    sides: dict[str, Side] = {"gliclass": lambda texts: reference.label(texts, labels)}
    sides |= {name: _side(engine, labels) for name, engine in engines.items()}
    seconds = by_turns(sides, records=records, rounds=rounds, advance=advance)
    texts = bench_texts(records, seed=0)
    expected = reference.scores(texts, labels)
    agreements = {
        name: agreement(label(engines[name], labels, texts), expected, labels) for name in engines.keys() - {OWN_MODEL}
    }
    return Comparison(
        gliclass_version=version,
        dtype=engines[dtype].describe().dtype,
        gliclass_records_per_s=records / seconds["gliclass"],
        streamer_records_per_s=records / seconds[dtype],
        streamer_float32_records_per_s=records / seconds[FLOAT32],
        own_model_records_per_s=records / seconds[OWN_MODEL] if OWN_MODEL in seconds else None,
        agreement=agreements[dtype],
        agreement_float32=agreements[FLOAT32],
    )


def _side(engine: Classifier, labels: LabelSet) -> Side:
    return lambda texts: label(engine, labels, texts)


def label(engine: Classifier, labels: LabelSet, texts: Sequence[str]) -> list[Verdict]:
    """Verdicts of texts; raises FatalError where there is none."""
    verdicts = []
    for answer in classify_texts(engine, labels, texts):
        if isinstance(answer, Reject):
            raise FatalError(f"a text of the benchmark was not labelled: {answer.message} ({answer.code})")
        verdicts.append(answer)
    return verdicts


def by_turns(
    sides: Mapping[str, Side],
    *,
    records: int,
    rounds: int,
    advance: Advance,
    clock: Callable[[], float] = perf_counter,
) -> dict[str, float]:
    """Median seconds of each side over rounds of `records` texts.

    The sides take turns, so that whatever else the machine does in the meantime falls on all of them. Every round has
    texts of its own: an engine must not profit from having seen sequences of just these lengths.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side(bench_texts(WARM_UP_TEXTS, seed=0))
    for number in range(1, rounds + 1):
        texts = bench_texts(records, seed=number)
        for name, side in sides.items():
            began = clock()
            side(texts)
            times[name].append(clock() - began)
            advance(records)
    return {name: median(seconds) for name, seconds in times.items()}
