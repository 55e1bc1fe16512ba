"""Drift seen from the loop's hooks: sampling, fading, label sets that change, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from streamer.drift.report import StreamCounts, StreamDrift
from streamer.drift.watch import COUNTED_AT_ONCE, DriftObserver
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import FacetVerdict, Verdict
from tests.columns import columns_of
from tests.drift.conftest import LABEL_SET, MOOD, labelled, share, tell, verdict

ENGLISH = "the parcel is late and it was not on time"
GERMAN = "das Paket ist noch nicht da und ich warte"


def watch(
    sample_every: int = 1, window_records: int = 1000, baseline: Mapping[str, StreamCounts] | None = None
) -> DriftObserver:
    return DriftObserver(baseline=baseline or {}, window_records=window_records, sample_every=sample_every)


def feed(observer: DriftObserver, records: int, good: float, topic: str = "in", text: str = ENGLISH) -> None:
    window = [labelled(topic, offset, verdict(good, "billing"), text) for offset in range(records)]
    tell(observer, window)
    observer.lag({})


def distance(observer: DriftObserver, aspect: str, facet: str = "") -> float:
    (stream,) = observer.drift()
    found = next(one.distance for one in stream.aspects if (one.aspect, one.facet) == (aspect, facet))
    assert found is not None
    return found


def test_equal_streams_are_no_distance_apart_and_a_changed_one_is() -> None:
    before = watch()
    feed(before, 500, 0.9)
    after = watch(baseline=before.counted())
    feed(after, 400, 0.9)
    assert distance(after, "labels", "mood") == pytest.approx(0.0, abs=1e-6)
    feed(after, 5000, 0.1, text=GERMAN)
    assert distance(after, "labels", "mood") > 0.9
    assert distance(after, "language") > 0.9
    assert distance(after, "labels", "topic") == pytest.approx(0.0, abs=1e-6)  # billing before and after


def test_the_window_forgets_what_is_long_ago() -> None:
    observer = watch(window_records=100)
    feed(observer, 1000, 0.9)
    feed(observer, 1000, 0.1)
    counts = observer.counted()["in"]
    assert share(counts, "labels", "mood", "bad") > 0.999
    assert counts.records == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize("window", [1, 7, 1000])
def test_one_record_in_so_many_is_counted_whatever_the_windows(window: int) -> None:
    observer = watch(sample_every=10, window_records=10_000_000)
    for _ in range(20_000 // window):
        feed(observer, window, 0.9)
    assert observer.counted()["in"].records == pytest.approx(2000, rel=0.1)


def test_streams_that_take_turns_are_both_counted() -> None:
    observer = watch(sample_every=10, window_records=1_000_000)
    window = [labelled("ab"[i % 2], i, verdict(0.9), "x") for i in range(20_000)]
    tell(observer, window)
    observer.stopped()
    for topic in "ab":
        assert observer.counted()[topic].records == pytest.approx(1000, rel=0.15)


def test_records_are_counted_when_enough_wait_or_the_loop_has_a_moment() -> None:
    observer = watch()
    window = [labelled("in", offset, verdict(0.9), "x") for offset in range(COUNTED_AT_ONCE)]
    tell(observer, window[:5])
    assert observer.counted() == {}
    observer.lag({})
    assert observer.counted()["in"].records == pytest.approx(5, rel=0.01)
    tell(observer, window)
    assert observer.counted()["in"].records > 200


def test_a_changed_label_set_begins_anew() -> None:
    observer = watch()
    feed(observer, 50, 0.9)
    other = LabelSet("tickets", (MOOD, Facet("topic", Kind.MULTI, (Label("billing"), Label("outage"), Label("new")))))
    new = FacetVerdict("topic", ("new",), {"billing": 0.1, "outage": 0.1, "new": 0.8}, False)
    tell(observer, [labelled("in", 99, Verdict((verdict(0.1).facets[0], new), (), other, False), "x")])
    observer.stopped()
    counts = observer.counted()["in"]
    assert (counts.version, counts.records) == (other.version, 1.0)
    assert counts.version != LABEL_SET.version
    assert share(counts, "labels", "topic", "new") == 1.0


def test_without_a_baseline_there_are_shares_alone() -> None:
    observer = watch()
    assert observer.drift() == ()
    feed(observer, 3, 0.9)
    (stream,) = observer.drift()
    assert isinstance(stream, StreamDrift)
    assert stream.baseline_version is None
    assert all(one.distance is None for one in stream.aspects)


def test_a_record_that_passes_costs_about_a_microsecond() -> None:
    """Some tenths of one on a quiet machine, by the default of one in twenty; the limit leaves room for a busy one."""
    observer = watch(sample_every=20, window_records=20_000)
    window = [labelled("in", offset, verdict(0.9, "billing"), ENGLISH * 5) for offset in range(1024)]
    envelopes, decided = [one for one, _ in window], columns_of([one for _, one in window])

    def feed_s() -> float:
        begun_s = time.thread_time()
        for _ in range(10):
            observer.labelled(envelopes, decided)
        return time.thread_time() - begun_s

    assert min(feed_s() for _ in range(5)) / 10_240 < 3e-6
