"""Shares and how far they are apart."""

from __future__ import annotations

from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.drift.report import StreamCounts, distance_of, drift_report, shares_of

COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1e6), min_size=1).filter(lambda c: sum(c.values()) > 0)


def counts(version: str = "v", records: float = 10.0, **labels: float) -> StreamCounts:
    return StreamCounts("tickets", version, records, {("labels", "topic"): labels})


def test_shares_are_counts_over_their_sum() -> None:
    assert shares_of({"a": 1.0, "b": 3.0}) == {"a": 0.25, "b": 0.75}
    assert shares_of({"a": 0.0}) == {}


def test_the_distance_is_the_published_one() -> None:
    """sqrt of the mean of two Kullback-Leibler divergences from the middle: worked out by hand for a fair and a
    certain coin (0.5 * 1 * log2(4/3) + 0.5 * (0.5 * log2(2/3) + 0.5 * 1))."""
    expected = (0.5 * 0.4150374993 + 0.5 * (0.5 * -0.5849625007 + 0.5 * 1.0)) ** 0.5
    assert distance_of({"a": 1.0}, {"a": 0.5, "b": 0.5}) == pytest.approx(expected, abs=1e-9)
    assert distance_of({"a": 1.0}, {"b": 1.0}) == 1.0


@given(COUNTS, COUNTS, COUNTS)
def test_the_distance_is_a_metric(a: dict[str, float], b: dict[str, float], c: dict[str, float]) -> None:
    one, other, third = shares_of(a), shares_of(b), shares_of(c)
    assert distance_of(one, one) < 1e-6
    assert isclose(distance_of(one, other), distance_of(other, one), abs_tol=1e-9)
    assert 0.0 <= distance_of(one, other) <= 1.0
    assert distance_of(one, other) <= distance_of(one, third) + distance_of(third, other) + 1e-6


def test_a_stream_is_compared_with_its_baseline_aspect_by_aspect() -> None:
    now = {"b.raw": counts(billing=1.0, outage=1.0), "a.raw": counts(billing=2.0)}
    first, second = drift_report(now, {"b.raw": counts("old", billing=4.0, login=4.0)})
    assert (first.topic, first.baseline_version, first.aspects[0].baseline) == ("a.raw", None, None)
    assert first.aspects[0].distance is None
    assert (second.version, second.baseline_version, second.records) == ("v", "old", 10.0)
    (topic,) = second.aspects
    assert (topic.aspect, topic.facet) == ("labels", "topic")
    assert topic.shares == {"billing": 0.5, "outage": 0.5}
    assert topic.baseline == {"billing": 0.5, "login": 0.5}
    assert topic.distance == pytest.approx(0.5**0.5)


def test_an_aspect_without_counts_has_no_distance() -> None:
    (stream,) = drift_report({"in": counts(billing=0.0)}, {"in": counts(billing=1.0)})
    assert stream.aspects[0].shares == {}
    assert stream.aspects[0].distance is None
    (stream,) = drift_report({"in": counts(billing=1.0)}, {"in": StreamCounts("tickets", "v", 1.0, {})})
    assert stream.aspects[0].distance is None
