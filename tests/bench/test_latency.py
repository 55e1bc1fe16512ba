"""Percentiles, arrivals, and a whole run on a device whose speed is known."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.bench.latency import arrivals, load_point, measure_latency, percentile, steady_rate
from streamer.bench.open_loop import Driven
from streamer.bench.texts import bench_labels
from streamer.engine.base import Classifier
from streamer.engine.fake import FakeClassifier
from streamer.settings import ModelSettings


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    """0.2 ms a record: 5,000 a second at most."""
    fake = FakeClassifier(window_tokens=512, max_tokens=100_000, window_s=0.0, record_s=0.0002)
    fake.warm_up([bench_labels()])
    yield fake
    fake.close()


def test_a_percentile_is_a_value_that_was_there() -> None:
    values = [float(i) for i in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.95, 0.99, 1.0)] == [1, 50, 95, 99, 100]
    assert percentile([3.0], 0.99) == 3.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_exceeded_by_no_more_than_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert sum(one <= found for one in values) >= share * len(values)
    assert sum(one < found for one in values) < share * len(values)


def test_arrivals_come_at_random_at_the_rate_that_was_asked_for() -> None:
    due_s = arrivals(1000.0, 10.0, seed=1)
    gaps = [b - a for a, b in pairwise(due_s)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(0.001, rel=0.05)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert spread == pytest.approx(mean, rel=0.1), "exponential gaps"
    assert arrivals(1000.0, 10.0, seed=1) == due_s != arrivals(1000.0, 10.0, seed=2)
    assert len(arrivals(0.1, 1.0, seed=1)) == 20, "few records say nothing, so a slow load lasts longer"


def test_what_is_due_before_a_load_has_settled_is_not_counted() -> None:
    due_s = tuple(float(i) for i in range(11))
    driven = Driven(due_s, tuple(due + (99.0 if due < 2 else 1.0 + due) for due in due_s), ((1.0, 5), (2.0, 6)), 11)
    found = load_point(driven, load=0.5, offered_records_per_s=1.0, window_records=11)
    assert (found.records, found.max_ms, found.p50_ms) == (9, 11_000.0, 7_000.0)
    assert (found.records_per_window, found.window_fill, found.records_per_batch) == (5.5, 0.5, 1.0)


def test_the_steady_rate_leaves_out_the_first_window() -> None:
    assert steady_rate([(5.0, 100), (6.0, 100), (7.0, 50)]) == 75.0
    assert steady_rate([(2.0, 100)]) == 50.0


def test_a_whole_run(classifier: Classifier) -> None:
    advanced: list[int] = []
    model = ModelSettings(name="fake")
    found = measure_latency(classifier=classifier, model=model, loads=(0.05, 0.5), load_s=0.3, advance=advanced.append)
    assert advanced == [1] * 4
    assert 100 < found.capacity_records_per_s < 5000
    assert [one.load for one in found.loads] == [0.05, 0.5]
    for one in found.loads:
        assert one.offered_records_per_s == pytest.approx(one.load * found.capacity_records_per_s)
        assert 0.2 < one.p50_ms <= one.p95_ms <= one.p99_ms <= one.max_ms
        assert 0 < one.window_fill <= 1
    assert found.loads[0].records_per_window < found.loads[1].records_per_window
    lone = found.lone
    assert 0.2 <= lone.forward_ms <= lone.lone_record_ms <= lone.road_ms
    assert lone.overhead == lone.lone_record_ms / lone.forward_ms - 1 >= 0.0
