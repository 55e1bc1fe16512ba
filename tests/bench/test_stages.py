"""Stages are measured with the real stops."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from streamer.bench.stages import STAGES, bench_records, measure_stages, score
from streamer.bench.texts import bench_labels, bench_texts
from streamer.engine.base import Classifier
from streamer.engine.fake import FakeClassifier
from streamer.errors import FatalError
from streamer.records import Document

OUT_OF_MEMORY = "too much for the device"


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    fake = FakeClassifier(
        window_tokens=512, max_tokens=100_000, window_s=0.002, record_s=0.0005, out_of_memory=(OUT_OF_MEMORY,)
    )
    fake.warm_up([bench_labels()])
    yield fake
    fake.close()


def test_every_stage_is_measured_on_every_record(classifier: Classifier) -> None:
    advanced: list[int] = []
    times = measure_stages(classifier=classifier, records=40, rounds=3, advance=advanced.append)
    assert tuple(times.us_per_record) == STAGES
    assert all(us > 0 for us in times.us_per_record.values())
    assert times.us_per_record["forward"] > 500, "the fake device takes half a millisecond a record"
    assert times.us_per_record["decode"] < times.us_per_record["forward"]
    assert times.engine_records_per_s < 2000
    assert advanced == [40, 40, 40], "the round that warms up is not counted"


def test_records_are_those_of_a_topic_with_keys_and_timestamps() -> None:
    texts = bench_texts(10, seed=1)
    records = bench_records(texts)
    assert [orjson.loads(record.value or b"")["text"] for record in records] == texts
    assert len({record.position for record in records}) == 10
    assert all(record.key and record.timestamp_ms for record in records)


def test_scores_come_back_in_order_over_several_windows(classifier: Classifier) -> None:
    documents = [Document(text, bench_labels()) for text in bench_texts(300, seed=1)]
    scores, facts = score(classifier, documents)
    assert sum(one.documents for one in facts) == len(scores) == 300
    assert len(facts) > 1
    alone = [score(classifier, [documents[i]])[0][0] for i in (0, 150, 299)]
    for i, expected in zip((0, 150, 299), alone, strict=True):
        assert (scores[i].logits == expected.logits).all()


def test_a_record_without_scores_ends_the_benchmark(classifier: Classifier) -> None:
    with pytest.raises(FatalError, match="ran out of memory"):
        score(classifier, [Document(OUT_OF_MEMORY, bench_labels())])
