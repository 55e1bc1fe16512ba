"""What the comparison of the two promises makes of its runs."""

from __future__ import annotations

import pytest
from prometheus_client.samples import Sample as Series

from load_tests.delivery_cost import Promise, Run, figures, reading, turns
from load_tests.reading import Balance

WHOLE = Balance(records=100, outputs=100, dead_letters=0, duplicates=0, lost=0, unknown=0)


def run(delivery: Promise, *, rate: float, cpu_ms: float, busy: float, counted: Balance = WHOLE) -> Run:
    return Run(delivery, 10.0, rate, cpu_ms, busy, 0, counted)


def test_the_sides_take_turns_and_either_begins_as_often() -> None:
    order = turns(4)
    plain, exact = "at_least_once", "exactly_once"
    assert order == [plain, exact, exact, plain, plain, exact, exact, plain]


RUNS = [
    run("at_least_once", rate=100, cpu_ms=1.0, busy=0.9),
    run("exactly_once", rate=80, cpu_ms=1.1, busy=0.8),
    run("exactly_once", rate=90, cpu_ms=1.3, busy=0.82),
    run("at_least_once", rate=120, cpu_ms=1.2, busy=0.9),
]


def test_costs_are_shares_of_at_least_once() -> None:
    found = figures(RUNS, works=True)
    assert found["wall_cost"] == pytest.approx(1 - 85 / 110, abs=1e-4)
    assert found["cpu_cost"] == pytest.approx(1.2 / 1.1 - 1, abs=1e-4)
    assert found["engine_busy_cost"] == pytest.approx(0.1, abs=1e-4)
    assert found["once"]
    assert found["exit_codes"] == [0]


def test_a_model_with_work_is_judged_by_its_idle_time_and_one_without_by_cpu_time() -> None:
    assert figures(RUNS, works=True)["cost"] == figures(RUNS, works=True)["engine_busy_cost"]
    assert figures(RUNS, works=False)["cost"] == figures(RUNS, works=False)["cpu_cost"]


@pytest.mark.parametrize(
    "counted",
    [
        Balance(records=100, outputs=99, dead_letters=0, duplicates=0, lost=1, unknown=0),
        Balance(records=100, outputs=101, dead_letters=0, duplicates=1, lost=0, unknown=0),
        Balance(records=100, outputs=99, dead_letters=1, duplicates=0, lost=0, unknown=0),
        Balance(records=100, outputs=100, dead_letters=0, duplicates=1, lost=1, unknown=0),
    ],
)
def test_one_run_with_a_record_lost_or_twice_is_seen(counted: Balance) -> None:
    assert not figures([*RUNS, run("exactly_once", rate=1, cpu_ms=1, busy=1, counted=counted)], works=True)["once"]


def test_a_reading_sums_topics_and_takes_the_models_stages_alone() -> None:
    scrape = [
        Series("process_cpu_seconds_total", {}, 4.5),
        Series("streamer_stage_seconds_total", {"stage": "tokenise"}, 0.5),
        Series("streamer_stage_seconds_total", {"stage": "forward"}, 1.5),
        Series("streamer_stage_seconds_total", {"stage": "encode"}, 100.0),
        Series("streamer_records_consumed_total", {"topic": "a"}, 7),
        Series("streamer_records_published_total", {"topic": "a"}, 4),
        Series("streamer_records_published_total", {"topic": "b"}, 1),
        Series("streamer_records_dead_lettered_total", {"topic": "a"}, 1),
    ]
    found = reading(scrape, 9.0)
    assert (found.at_s, found.cpu_s, found.engine_s, found.consumed, found.ended) == (9.0, 4.5, 2.0, 7, 6)
