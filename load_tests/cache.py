"""What the score cache costs and gives: `python -m load_tests.cache [--records 512] [--rounds 5]`.

Lookups: microseconds a record of a window of 1,024 texts (20 to 80 tokens, 24 labels) before an engine that takes no
time of its own, less that engine's. A hit is looked up; a miss is looked up, remembered, and pushes out another.

Throughput: the bundled model on a stream in which 30 in 100 records repeat an earlier text, and on one without repeats,
each with the cache (empty at first) and without, by turns in one process. Prints one line of JSON. Exit code 1 when
decisions differ by more than rounding, or the cache does not answer every repeat.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time
from typing import Annotated

import numpy as np
import orjson
import typer

from load_tests.harness import LoadTestError, exit_with
from streamer.app import CPU_WINDOW_RECORDS, build_classifier
from streamer.bench.texts import bench_labels, bench_texts
from streamer.decide import decide
from streamer.engine.base import Classifier, EngineFacts, ModelInfo, Pending, WindowScores
from streamer.engine.cache import CachingClassifier
from streamer.facets import LabelSet
from streamer.records import Document, Scores, Verdict
from streamer.settings import ModelSettings

WAIT_S = 60.0
WINDOWS_UNDER_WAY = 2
WINDOW = 1024
WINDOWS = 40
MAX_BYTES = 64 * 1024 * 1024
SMALL_BYTES = 2 * 1024 * 1024  # full after a few windows
REPEATS = 0.3
SEED = 1
MOST_APART = 0.005  # of decisions: a score may lie at a threshold


class Ready:
    """A Classifier and its Pending: the same answers for every window, at once."""

    def __init__(self, labels: int) -> None:
        flat = np.random.default_rng(SEED).standard_normal(WINDOW * labels).astype(np.float32)
        self._scores = tuple(Scores(logits, 50, False) for logits in flat.reshape(WINDOW, labels))

    def warm_up(self, label_sets: Sequence[LabelSet]) -> None:
        """Nothing to do."""

    def describe(self) -> ModelInfo:
        return ModelInfo("ready", "none", "cpu", "float32", 512)

    def close(self) -> None:
        """Nothing to do."""

    def submit(self, documents: Sequence[Document]) -> Pending:
        return self

    def wait(self, timeout_s: float) -> WindowScores:
        return WindowScores(self._scores, EngineFacts(WINDOW, 1, WINDOW, WINDOW, 0.0, 0.0))


def main(
    records: Annotated[int, typer.Option(min=64, help="Of each stream.")] = 512,
    rounds: Annotated[int, typer.Option(min=1, help="Of each stream with and without the cache.")] = 5,
) -> None:
    """Measure lookups and throughput."""

    def test() -> bool:
        found = {**lookups_us(), **throughput(records, rounds)}
        print(orjson.dumps(found).decode(), flush=True)
        return found["repeating_hits"] == found["repeats"] and found["repeating_apart"] <= MOST_APART

    exit_with(test)


def lookups_us() -> dict[str, float]:
    """CPU time of a hit and of a miss, medians over windows."""
    label_set = bench_labels()
    texts = bench_texts(WINDOW, SEED)
    windows = [[Document(f"{text} {number}", label_set) for text in texts] for number in range(WINDOWS)]
    ready = Ready(len(label_set.labels))
    missing = CachingClassifier(inner=ready, max_bytes=SMALL_BYTES)
    knowing = CachingClassifier(inner=ready, max_bytes=MAX_BYTES)
    knowing.submit(windows[0]).wait(0.0)
    bare_us = median(_window_us(ready, window) for window in windows)
    return {
        "hit_us": round(median(_window_us(knowing, windows[0]) for _ in windows) - bare_us, 2),
        "miss_us": round(median(_window_us(missing, window) for window in windows) - bare_us, 2),
    }


def _window_us(classifier: Classifier, window: Sequence[Document]) -> float:
    began_s = process_time()
    classifier.submit(window).wait(0.0)
    return (process_time() - began_s) / WINDOW * 1e6


def throughput(records: int, rounds: int) -> dict[str, float]:
    """Medians over rounds, the ratios those of each round's pair; `apart`: share of decisions that differ."""
    label_set = bench_labels()
    fresh = bench_texts(records, SEED)
    streams = {"repeating": with_repeats(fresh), "fresh": fresh}
    found: dict[str, list[float]] = defaultdict(list)
    plain = build_classifier(ModelSettings(device="cpu"), max_tokens="auto")
    try:
        plain.warm_up([label_set])
        for _ in range(rounds):
            for name, texts in streams.items():
                documents = [Document(text, label_set) for text in texts]
                cached = CachingClassifier(inner=plain, max_bytes=MAX_BYTES)
                without, behind = label(plain, documents), label(cached, documents)
                found[f"{name}_per_s"].append(records / without.wall_s)
                found[f"{name}_cached_per_s"].append(records / behind.wall_s)
                found[f"{name}_ratio"].append(without.wall_s / behind.wall_s)
                found[f"{name}_hits"].append(behind.hits)
                found[f"{name}_apart"].append(apart(without.verdicts, behind.verdicts))
    finally:
        plain.close()
    medians = {name: round(median(values), 3) for name, values in found.items()}
    return {**medians, "repeats": records - len(set(streams["repeating"]))}


def with_repeats(texts: Sequence[str]) -> list[str]:
    """As many texts, REPEATS of them one that came before."""
    chance = random.Random(SEED)
    places = set(chance.sample(range(1, len(texts)), int(REPEATS * len(texts))))
    stream: list[str] = []
    for place, text in enumerate(texts):
        stream.append(chance.choice(stream) if place in places else text)
    return stream


@dataclass(frozen=True, slots=True)
class Labelled:
    """A stream's verdicts, and what they took."""

    verdicts: list[Verdict]
    wall_s: float
    hits: int


def label(classifier: Classifier, documents: Sequence[Document]) -> Labelled:
    """Windows as the loop submits them: two under way."""
    began_s = perf_counter()
    starts = range(0, len(documents), CPU_WINDOW_RECORDS)
    under_way: deque[Pending] = deque()
    done: list[WindowScores] = []
    for start in starts:
        under_way.append(classifier.submit(documents[start : start + CPU_WINDOW_RECORDS]))
        if len(under_way) == WINDOWS_UNDER_WAY:
            done.append(_wait(under_way.popleft()))
    done.extend(map(_wait, under_way))
    wall_s = perf_counter() - began_s
    scores = [one for window in done for one in window.scores if isinstance(one, Scores)]
    hits = sum(window.facts.cache.hits for window in done if window.facts.cache is not None)
    return Labelled(decide(documents, scores), wall_s, hits)


def _wait(pending: Pending) -> WindowScores:
    done = pending.wait(WAIT_S)
    if done is None:
        raise LoadTestError(f"a window took more than {WAIT_S} s")
    return done


def apart(some: Sequence[Verdict], others: Sequence[Verdict]) -> float:
    """Share of facets that were not given the same labels."""
    pairs = [
        (one.labels, other.labels)
        for verdict, twin in zip(some, others, strict=True)
        for one, other in zip(verdict.facets, twin.facets, strict=True)
    ]
    return sum(one != other for one, other in pairs) / len(pairs)


if __name__ == "__main__":
    typer.run(main)
