"""How long a record waits for its labels: alone, and under loads that the machine can just bear.

Enters: a warm Classifier, loads as shares of the road's capacity. Leaves: the capacity, percentiles for each load, and
a lone record's time beside that of one forward pass. Must not know: how records are driven (see `open_loop.py`),
terminals.

Latency counts from the moment a record was due to the moment its event was handed to the sink; a broker's own time
comes on top. Records are due at random (exponential gaps), as those of many independent writers are.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle, islice
from math import ceil
from statistics import median
from time import perf_counter

from streamer.app import window_records
from streamer.bench.open_loop import Driven, bench_settings, drive
from streamer.bench.texts import bench_labels, bench_texts
from streamer.engine.base import Classifier, EngineFacts
from streamer.errors import FatalError
from streamer.records import Document, Scores
from streamer.settings import ModelSettings, Settings
from streamer.terminal import Advance

LOADS = (0.1, 0.25, 0.5, 0.75, 0.9)
DISTINCT_TEXTS = 4096
SETTLING_SHARE = 0.2  # of a load's time: queues fill meanwhile, so it is not counted
FEWEST_RECORDS, MOST_RECORDS = 20, 200_000  # of a load
CAPACITY_WINDOWS = 4
LONE_RECORDS, LONE_WARM_UP = 20, 3
LONE_GAP_S = 0.05  # and three times what a record takes
WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One load. `load` is its share of the capacity; times in milliseconds, `window_fill` is the share of a window's
    room that was used."""

    load: float
    offered_records_per_s: float
    records: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    records_per_window: float
    window_fill: float
    records_per_batch: float


@dataclass(frozen=True, slots=True)
class LoneRecord:
    """One record of the benchmark, 24 labels, with nothing else to do; medians in milliseconds.

    `forward_ms` is what the engine counts for the device, `lone_record_ms` runs from the text to its scores, `road_ms`
    from when the record was due to its event, and holds the time that a window waits for company (`max_wait_ms`).
    """

    records: int
    forward_ms: float
    lone_record_ms: float
    road_ms: float
    max_wait_ms: float

    @property
    def overhead(self) -> float:
        """What the engine adds to the forward pass, as a share of it."""
        return self.lone_record_ms / self.forward_ms - 1


@dataclass(frozen=True, slots=True)
class Latency:
    """`capacity_records_per_s` is what the road labels of a backlog."""

    capacity_records_per_s: float
    lone: LoneRecord
    loads: tuple[LoadPoint, ...]


def measure_latency(
    *, classifier: Classifier, model: ModelSettings, loads: Sequence[float], load_s: float, advance: Advance
) -> Latency:
    """Offer each load for about `load_s` seconds. `model` is what the classifier was made of; `advance` is told of
    loads done, those of the capacity and of the lone record included: two more than there are `loads`."""
    settings = bench_settings(model)
    texts = bench_texts(DISTINCT_TEXTS, seed=0)
    room = window_records(settings, classifier)
    capacity = _capacity(classifier, settings, texts, room, load_s)
    advance(1)
    lone = _lone_record(classifier, settings, texts)
    advance(1)
    points: list[LoadPoint] = []
    for load in loads:
        due_s = arrivals(load * capacity, load_s, seed=len(points))
        driven = _drive(classifier, settings, texts, due_s)
        points.append(load_point(driven, load=load, offered_records_per_s=load * capacity, window_records=room))
        advance(1)
    return Latency(capacity, lone, tuple(points))


def arrivals(records_per_s: float, seconds: float, *, seed: int) -> list[float]:
    """When records are due, in seconds from the start: about `seconds` of them, with exponential gaps."""
    chance = random.Random(seed)
    count = min(max(round(records_per_s * seconds), FEWEST_RECORDS), MOST_RECORDS)
    return list(accumulate(chance.expovariate(records_per_s) for _ in range(count)))


def load_point(driven: Driven, *, load: float, offered_records_per_s: float, window_records: int) -> LoadPoint:
    """Percentiles of what was due after the load had settled."""
    settled_s = SETTLING_SHARE * driven.due_s[-1]
    counted = [one for due, one in zip(driven.due_s, driven.latencies_s, strict=True) if due >= settled_s]
    per_window = len(driven.due_s) / len(driven.windows)
    return LoadPoint(
        load=load,
        offered_records_per_s=offered_records_per_s,
        records=len(counted),
        p50_ms=percentile(counted, 0.5) * 1000,
        p95_ms=percentile(counted, 0.95) * 1000,
        p99_ms=percentile(counted, 0.99) * 1000,
        max_ms=max(counted) * 1000,
        records_per_window=per_window,
        window_fill=per_window / window_records,
        records_per_batch=len(driven.due_s) / driven.batches,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """By nearest rank: the smallest value that at least `share` of the values do not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def steady_rate(windows: Sequence[tuple[float, int]]) -> float:
    """Records per second between the first window and the last (when, how many): those of the first were begun
    before the clock."""
    (first_s, first), (last_s, _) = windows[0], windows[-1]
    if last_s <= first_s:
        return first / last_s
    return sum(documents for _, documents in windows[1:]) / (last_s - first_s)


def _capacity(
    classifier: Classifier, settings: Settings, texts: Sequence[str], window_records: int, load_s: float
) -> float:
    """Records per second of a backlog: a short one tells how long the one that counts has to be."""
    least = CAPACITY_WINDOWS * window_records
    rough = steady_rate(_drive(classifier, settings, texts, [0.0] * least).windows)
    count = min(max(least, round(rough * load_s / 2)), MOST_RECORDS)
    return steady_rate(_drive(classifier, settings, texts, [0.0] * count).windows)


def _drive(classifier: Classifier, settings: Settings, texts: Sequence[str], due_s: Sequence[float]) -> Driven:
    chosen = list(islice(cycle(texts), len(due_s)))
    return drive(classifier=classifier, settings=settings, texts=chosen, due_s=due_s)


def _lone_record(classifier: Classifier, settings: Settings, texts: Sequence[str]) -> LoneRecord:
    documents = [Document(text, bench_labels()) for text in texts[: LONE_WARM_UP + LONE_RECORDS]]
    asked = [_ask(classifier, document) for document in documents][LONE_WARM_UP:]
    engine_s = median(seconds for seconds, _ in asked)
    gap_s = LONE_GAP_S + 3 * engine_s
    driven = _drive(classifier, settings, texts, [i * gap_s for i in range(LONE_RECORDS)])
    return LoneRecord(
        records=LONE_RECORDS,
        forward_ms=median(facts.forward_s for _, facts in asked) * 1000,
        lone_record_ms=engine_s * 1000,
        road_ms=median(driven.latencies_s) * 1000,
        max_wait_ms=settings.batching.max_wait_ms,
    )


def _ask(classifier: Classifier, document: Document) -> tuple[float, EngineFacts]:
    """Seconds from a text to its scores, and what the engine says of them."""
    began = perf_counter()
    pending = classifier.submit([document])
    while (result := pending.wait(WAIT_S)) is None:
        pass
    seconds = perf_counter() - began
    if not isinstance(result.scores[0], Scores):
        raise FatalError(f"a record of the benchmark got no scores: {result.scores[0].message}")
    return seconds, result.facts
