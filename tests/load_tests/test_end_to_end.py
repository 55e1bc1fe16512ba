"""What the comparison of the road with its engine makes of its runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from load_tests.end_to_end import EngineRun, RoadRun, distinct_texts, figures, growth, run_engine, turns
from load_tests.process import Sample
from load_tests.reading import Balance
from streamer.bench.texts import bench_labels, bench_texts
from streamer.engine.base import Classifier
from streamer.engine.fake import FakeClassifier

WHOLE = Balance(records=1000, outputs=1000, dead_letters=0, duplicates=0, lost=0, unknown=0)
ENGINES = [EngineRun(1000, 100.0, 15.0), EngineRun(1000, 120.0, 17.0)]
ROAD = RoadRun(1000, 100.0, 18.0, 300.0, 320.0, 4.0, 0, WHOLE)


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    """1 ms a record."""
    fake = FakeClassifier(window_tokens=512, max_tokens=100_000, window_s=0.0, record_s=0.001)
    fake.warm_up([bench_labels()])
    yield fake
    fake.close()


def test_the_ratio_is_of_medians() -> None:
    found = figures(ENGINES, [ROAD, replace(ROAD, records_per_s=110.0)], None)
    assert (found["engine_records_per_s"], found["road_records_per_s"]) == (110.0, 105.0)
    assert found["ratio"] == pytest.approx(105 / 110, abs=1e-4)
    assert found["failures"] == []


def test_a_million_records_cost_the_hours_that_they_take() -> None:
    found = figures(ENGINES, [ROAD], 0.36)
    assert found["machine_hours_per_million"] == pytest.approx(1e6 / 100 / 3600, abs=1e-4)
    assert found["cost_per_million"] == pytest.approx(1.0, abs=1e-4)
    assert found["core_hours_per_million"] == 5.0
    assert figures(ENGINES, [ROAD], None)["cost_per_million"] is None


@pytest.mark.parametrize(
    ("road", "failure"),
    [
        (replace(ROAD, records_per_s=93.0), "ratio"),
        (replace(ROAD, counted=replace(WHOLE, outputs=999, lost=1)), "records"),
        (replace(ROAD, counted=replace(WHOLE, outputs=1001, duplicates=1)), "records"),
        (replace(ROAD, counted=replace(WHOLE, outputs=999, dead_letters=1)), "records"),
        (replace(ROAD, growth_mb=51.0), "memory"),
        (replace(ROAD, exit_code=1), "exit code"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(road: RoadRun, failure: str) -> None:
    assert figures(ENGINES, [road], None)["failures"] == [failure]


def test_growth_is_judged_only_once_memory_has_settled() -> None:
    assert figures(ENGINES, [replace(ROAD, growth_mb=None)], None)["failures"] == []
    samples = [Sample(at_s=i, ended=i * 1000, rss_mb=200 + min(i, 12) * 10) for i in range(41)]
    assert growth(samples, 40_000) == 20.0, "from the first 10,000 on"
    assert growth(samples[:13], 12_000) == 70.0, "from the first 5,000 on"
    assert growth(samples[:6], 5_000) is None


def test_sides_take_turns_and_either_begins_as_often() -> None:
    assert turns(2) == ["engine", "road", "road", "engine"]


def test_texts_are_all_different() -> None:
    texts = distinct_texts(3000)
    assert len(set(texts)) == len(texts) == 3000


def test_the_engine_is_measured_between_its_first_window_and_its_last(classifier: Classifier) -> None:
    found = run_engine(classifier, bench_texts(400, seed=1))
    assert found.records == 400
    assert 50 < found.records_per_s < 1000
    assert found.cpu_ms_per_record < 50
