"""What counts as steady under backpressure, and how pauses are summed up."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from prometheus_client.samples import Sample as Series

from load_tests.backpressure import SLOW_BROKER, SLOW_MODEL, Outcome, bound_mb, large_records
from load_tests.reading import Balance
from load_tests.steadiness import Sample, StagePauses, by_stage, longest_by_stage, sample

STEADY = Outcome(
    case=SLOW_BROKER,
    delivery="exactly_once",
    seconds=100.0,
    ended_slowly=10,
    ended=100,
    rss_mb_start=100.0,
    rss_mb_peak=200.0,
    rss_mb_bound=300.0,
    rebalances={"assigned": 0, "revoked": 0, "lost": 0},
    rewinds=0,
    pauses=(StagePauses("wait", 10, 50.0, 70.0, 50.0, 51.0), StagePauses("assigned", 1, 90.0, 90.0, 90.0, 90.0)),
    longest=[],
    metric_max_ms={},
    counted=Balance(records=100, outputs=100, dead_letters=0, duplicates=0, lost=0, unknown=0),
    exit_code=0,
)


def test_a_steady_process_has_no_failures() -> None:
    assert STEADY.failures() == []


@pytest.mark.parametrize(
    ("unsteady", "failure"),
    [
        (replace(STEADY, rss_mb_peak=301.0), "memory"),
        (replace(STEADY, rebalances={"assigned": 1, "revoked": 0, "lost": 1}), "membership"),
        (replace(STEADY, pauses=(StagePauses("send", 10, 1.0, 90.0, 1.0, 61.0),)), "pauses"),
        (replace(STEADY, counted=replace(STEADY.counted, lost=1, outputs=99)), "records"),
        (replace(STEADY, counted=replace(STEADY.counted, duplicates=1, outputs=101)), "records"),
        (replace(STEADY, exit_code=1), "exit code"),
    ],
)
def test_each_way_to_be_unsteady_is_seen(unsteady: Outcome, failure: str) -> None:
    assert unsteady.failures() == [failure]


def test_a_backlog_that_cannot_be_finished_is_not_lost() -> None:
    assert replace(STEADY, case=SLOW_MODEL, counted=replace(STEADY.counted, lost=90, outputs=10)).failures() == []


def test_the_bound_on_memory_is_far_below_the_backlog() -> None:
    assert bound_mb(SLOW_MODEL, 100.0, 10_000) < 50_000 * 10_000 / 2**20
    assert bound_mb(SLOW_BROKER, 100.0, 10_000) > bound_mb(SLOW_MODEL, 100.0, 10_000)


def test_large_records_have_their_size_and_a_text() -> None:
    for key, value in large_records(3, 10_000):
        assert len(value) == 10_000
        assert orjson.loads(value)["id"] == int(key)
        assert orjson.loads(value)["text"]


def test_pauses_are_told_with_and_without_the_wait_for_a_core() -> None:
    found = by_stage({"poll": [(0.010, 0.0)] * 99 + [(0.200, 0.150)], "send": [(0.080, 0.0)]})
    assert found == (
        StagePauses("send", 1, 80.0, 80.0, 80.0, 80.0),
        StagePauses("poll", 100, 10.0, 200.0, 10.0, 50.0),
    )


def test_a_scrape_is_read_by_event_and_by_stage() -> None:
    found = sample(
        [
            Series("process_resident_memory_bytes", {}, 3 * 2**20),
            Series("streamer_records_published_total", {"topic": "a"}, 4),
            Series("streamer_records_dead_lettered_total", {"topic": "a"}, 1),
            Series("streamer_rewinds_total", {}, 2),
            Series("streamer_rebalances_total", {"event": "lost"}, 1),
            Series("streamer_loop_longest_pause_seconds", {"stage": "poll"}, 0.25),
        ],
        7.0,
    )
    assert found == Sample(7.0, 3.0, 5, 2, {"lost": 1}, {"poll": 0.25})


def test_the_longest_pause_of_a_stage_is_kept_when_the_metric_forgets_it() -> None:
    one = Sample(0.0, 1.0, 0, 0, {}, {"poll": 0.25, "send": 0.01})
    assert longest_by_stage([one, replace(one, paused_s={"poll": 0.05})]) == {"poll": 250.0, "send": 10.0}
