"""What a record costs as labels, or its text, grow.

Enters: a warm Classifier, numbers of labels and lengths of texts. Leaves: microseconds and tokens a record for each, as
medians over rounds in which all of them take turns. Must not know: models, terminals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from time import perf_counter, process_time

from streamer.bench.stages import score
from streamer.bench.texts import bench_labels, bench_labels_of, bench_texts, bench_texts_of
from streamer.engine.base import Classifier
from streamer.facets import LabelSet
from streamer.records import Document
from streamer.terminal import Advance

LABEL_COUNTS = (4, 16, 32, 64, 128)
TEXT_TOKENS = (16, 64, 256, 512)
# a round of one size takes about so long, so that slow and fast devices are measured alike
ROUND_S = 0.5
FEWEST_RECORDS, MOST_RECORDS = 16, 4096
DISTINCT_TEXTS = 256
GROWTH_FROM, GROWTH_TO = 16, 128  # labels


@dataclass(frozen=True, slots=True)
class ScalePoint:
    """One size: labels, or words and signs of a text.

    `us_per_record` runs from texts to scores, tokenising included and windows overlapping; `cpu_us_per_record` is what
    the process computed meanwhile, on all cores. `tokens_per_record` counts text and labels as the model sees them,
    padding left out. `cut`: share of texts longer than the model's window.
    """

    size: int
    us_per_record: float
    cpu_us_per_record: float
    tokens_per_record: float
    cut: float


@dataclass(frozen=True, slots=True)
class Growth:
    """How many times as much the larger of two label sets costs, in time, CPU time and tokens."""

    from_labels: int
    to_labels: int
    cost: float
    cpu: float
    tokens: float


@dataclass(frozen=True, slots=True)
class Scaling:
    """`labels`: texts of 20 to 80 words and signs under one facet of so many labels. `text`: texts of so many words
    and signs under 24 labels in 3 facets."""

    labels: tuple[ScalePoint, ...]
    text: tuple[ScalePoint, ...]

    @property
    def growth(self) -> Growth:
        by_size = {point.size: point for point in self.labels}
        few, many = by_size[GROWTH_FROM], by_size[GROWTH_TO]
        return Growth(
            from_labels=GROWTH_FROM,
            to_labels=GROWTH_TO,
            cost=many.us_per_record / few.us_per_record,
            cpu=many.cpu_us_per_record / few.cpu_us_per_record,
            tokens=many.tokens_per_record / few.tokens_per_record,
        )


@dataclass(frozen=True, slots=True)
class _Size:
    """What is asked at one size; `tokens` None means texts as posts and tickets have them."""

    size: int
    labels: LabelSet
    tokens: int | None

    def documents(self, count: int, seed: int) -> list[Document]:
        distinct = min(count, DISTINCT_TEXTS)
        texts = bench_texts(distinct, seed) if self.tokens is None else bench_texts_of(self.tokens, distinct, seed)
        return [Document(text, self.labels) for text in islice(cycle(texts), count)]


@dataclass(frozen=True, slots=True)
class _Taken:
    """Of one round: seconds, CPU seconds, tokens and texts that were cut, all a record."""

    seconds: float
    cpu_s: float
    tokens: float
    cut: float


def measure_scaling(*, classifier: Classifier, rounds: int, advance: Advance) -> Scaling:
    """Measure every size `rounds` times; `advance` is told of sizes measured."""
    by_labels = [_Size(count, bench_labels_of(count), None) for count in LABEL_COUNTS]
    by_text = [_Size(tokens, bench_labels(), tokens) for tokens in TEXT_TOKENS]
    sizes = [*by_labels, *by_text]
    classifier.warm_up([*(one.labels for one in by_labels), bench_labels()])
    counts: dict[_Size, int] = {}
    for one in sizes:
        _take(classifier, one, FEWEST_RECORDS, seed=0)
        rough_s = _take(classifier, one, FEWEST_RECORDS, seed=1).seconds
        counts[one] = min(max(FEWEST_RECORDS, int(ROUND_S / rough_s)), MOST_RECORDS)
    taken: Mapping[_Size, list[_Taken]] = {one: [] for one in sizes}
    for number in range(rounds):
        for one in sizes:
            taken[one].append(_take(classifier, one, counts[one], seed=2 + number))
            advance(1)
    return Scaling(*(tuple(_point(one, taken[one]) for one in group) for group in (by_labels, by_text)))


def _take(classifier: Classifier, size: _Size, count: int, seed: int) -> _Taken:
    documents = size.documents(count, seed)
    began, cpu_began = perf_counter(), process_time()
    scores, facts = score(classifier, documents)
    seconds, cpu_s = perf_counter() - began, process_time() - cpu_began
    tokens, cut = sum(one.tokens for one in facts), sum(one.truncated for one in scores)
    return _Taken(seconds / count, cpu_s / count, tokens / count, cut / count)


def _point(size: _Size, taken: Sequence[_Taken]) -> ScalePoint:
    return ScalePoint(
        size=size.size,
        us_per_record=median(one.seconds for one in taken) * 1e6,
        cpu_us_per_record=median(one.cpu_s for one in taken) * 1e6,
        tokens_per_record=median(one.tokens for one in taken),
        cut=median(one.cut for one in taken),
    )
