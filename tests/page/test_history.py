"""Rates, latencies and label counts over time: right at every second, bounded, and steady in their ids."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.page.history import KEPT_BUCKETS, KEPT_POINTS, POINTS_PER_BUCKET, History, quantiles
from streamer.page.readings import DEAD_LETTERED, LABELS, LAG_RECORDS, LAG_S, PUBLISHED, READ, Reading, Series


def reading(labels: Mapping[str, float] | None = None, **counts: float) -> Reading:
    series: dict[str, Series] = {
        name: {("tickets",): counts.get(key, 0.0)}
        for key, name in {"read": READ, "labelled": PUBLISHED, "dead": DEAD_LETTERED}.items()
    }
    series[LAG_RECORDS] = {("tickets", "0"): 3.0, ("tickets", "1"): 4.0}
    series[LAG_S] = {("tickets", "0"): 1.5, ("tickets", "1"): 0.5}
    series[LABELS] = {("tickets", "mood", name): count for name, count in (labels or {}).items()}
    return Reading(series)


def add(history: History, at_s: float, one: Reading, latencies_s: list[float | None] | None = None) -> None:
    latencies_s = latencies_s or []
    history.add(one, now_s=at_s, wall_s=at_s + 1e9, published=len(latencies_s), latencies_s=latencies_s)


def test_a_point_is_what_came_in_its_second() -> None:
    history = History(began_s=0.0)
    add(history, 1.0, reading(read=10, labelled=8, dead=1), [0.1, 0.3, None])
    add(history, 3.0, reading(read=30, labelled=12, dead=1), [0.1, 0.3, None, 5.0])
    first, second = history.points(after=0)
    assert (first.read_per_s, first.labelled_per_s, first.dead_per_s) == (10, 8, 1)
    assert (second.read_per_s, second.labelled_per_s, second.dead_per_s) == (10, 2, 0)
    assert (second.lag_records, second.lag_s, second.window_documents) == (7, 1.5, None)
    assert first.latency is not None
    assert second.latency == (5.0, 5.0, 5.0)  # of the one that was new
    assert history.points(after=first.number) == [second]


def test_labels_are_counted_by_bucket_and_keep_their_ids() -> None:
    history = History(began_s=0.0)
    for second in range(POINTS_PER_BUCKET):
        add(history, second + 1.0, reading({"good": 2.0 * second, "bad": 1.0}))
    ids = dict(history.ids)
    (bucket,) = history.buckets(after=0)
    assert dict(bucket.counts) == {ids["tickets", "mood", "good"]: 8, ids["tickets", "mood", "bad"]: 1}
    for second in range(POINTS_PER_BUCKET):  # a reload took one away, and brought another
        add(history, second + 6.0, reading({"good": 9.0, "new": 4.0}))
    assert history.ids["tickets", "mood", "good"] == ids["tickets", "mood", "good"]
    assert ("tickets", "mood", "bad") not in history.ids
    assert history.ids["tickets", "mood", "new"] not in ids.values()
    (later,) = history.buckets(after=bucket.number)
    assert dict(later.counts) == {history.ids["tickets", "mood", "good"]: 1, history.ids["tickets", "mood", "new"]: 4}


def test_it_is_bounded() -> None:
    history = History(began_s=0.0)
    for second in range(2 * KEPT_POINTS):
        add(history, second + 1.0, reading({f"label {i}": float(second) for i in range(20)}))
    assert len(history.points(after=0)) == KEPT_POINTS
    assert len(history.buckets(after=0)) == KEPT_BUCKETS


@given(st.lists(st.floats(0, 1e6) | st.none(), max_size=300))
def test_quantiles_are_among_the_latencies_and_in_order(latencies_s: list[float | None]) -> None:
    known = [one for one in latencies_s if one is not None]
    found = quantiles(latencies_s)
    if not known:
        assert found is None
        return
    assert found is not None
    assert list(found) == sorted(found)
    assert set(found) <= set(known)
    assert sum(one <= found.p95_s for one in known) >= 0.95 * len(known)


@pytest.mark.parametrize(("count", "p50", "p95", "p99"), [(1, 0, 0, 0), (100, 50, 95, 99), (1000, 500, 950, 990)])
def test_quantiles_of_known_numbers(count: int, p50: float, p95: float, p99: float) -> None:
    assert quantiles([float(i) for i in range(count)]) == (p50, p95, p99)
