"""Records are sent when they are due, whatever the loop does meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamer.bench.open_loop import bench_settings, drive
from streamer.bench.texts import bench_labels, bench_texts
from streamer.engine.base import Classifier
from streamer.engine.fake import FakeClassifier
from streamer.errors import FatalError
from streamer.settings import ModelSettings

OUT_OF_MEMORY = "too much for the device"
SETTINGS = bench_settings(ModelSettings(name="fake"))
WINDOW_S = 0.06


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    """Takes 60 ms for a window, whatever it holds."""
    fake = FakeClassifier(
        window_tokens=512, max_tokens=100_000, window_s=WINDOW_S, record_s=0.0, out_of_memory=(OUT_OF_MEMORY,)
    )
    fake.warm_up([bench_labels()])
    yield fake
    fake.close()


def test_the_labels_are_those_of_the_benchmark() -> None:
    assert SETTINGS.build_label_sets()["bench"] == bench_labels()


def test_every_record_ends_and_none_before_it_was_due(classifier: Classifier) -> None:
    due_s = [0.0, 0.001, 0.2, 0.2]
    driven = drive(classifier=classifier, settings=SETTINGS, texts=bench_texts(4, seed=1), due_s=due_s)
    assert driven.due_s == tuple(due_s)
    assert all(done >= due + WINDOW_S for due, done in zip(due_s, driven.done_s, strict=True))
    assert sum(documents for _, documents in driven.windows) == 4
    assert driven.batches >= len(driven.windows) >= 1


def test_waiting_behind_others_counts_from_when_a_record_was_due(classifier: Classifier) -> None:
    """Ten records a window's time apart from a loop that sends when it can would each see one window's time."""
    records = 10
    settings = bench_settings(ModelSettings(name="fake")).model_copy(
        update={"batching": SETTINGS.batching.model_copy(update={"max_records": 1})}
    )
    due_s = [i * WINDOW_S / 3 for i in range(records)]
    driven = drive(classifier=classifier, settings=settings, texts=bench_texts(records, seed=1), due_s=due_s)
    latencies_s = driven.latencies_s
    assert len(driven.windows) == records
    assert latencies_s == sorted(latencies_s), "each waits for all before it"
    assert latencies_s[-1] > records * WINDOW_S * 2 / 3 * 0.9


def test_a_record_without_labels_ends_the_benchmark(classifier: Classifier) -> None:
    with pytest.raises(FatalError, match="was not labelled"):
        drive(classifier=classifier, settings=SETTINGS, texts=[OUT_OF_MEMORY], due_s=[0.0])
