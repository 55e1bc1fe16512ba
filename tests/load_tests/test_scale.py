"""What a scale run makes of moments: rates, pauses, lag, recovery, and when a run counts as failed."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from load_tests.scale_figures import Input, Move, Output, Traffic, longest_gap
from load_tests.scale_report import failures, rates, show

PARTITIONS = 2
PER_S = 10


def came(seconds: int) -> dict[str, Input]:
    """Ten records a second, over both partitions by turns, from second 0 on."""
    return {f"t-{i % PARTITIONS}-{i // PARTITIONS}": Input(i % PARTITIONS, i / PER_S) for i in range(seconds * PER_S)}


def answered(inputs: dict[str, Input], *, delay_s: float = 0.05) -> list[Output]:
    return [Output(of, one.at_s + delay_s) for of, one in inputs.items()]


def stalled(inputs: dict[str, Input], *, partition: int, from_s: float, to_s: float) -> list[Output]:
    """Outputs of a partition that stands still for a while, and then catches up at once."""
    return [
        Output(of, to_s if one.partition == partition and from_s <= one.at_s < to_s else one.at_s + 0.05)
        for of, one in inputs.items()
    ]


def test_the_rate_is_that_of_the_middle() -> None:
    inputs = came(100)
    slow_ends = [
        Output(one.of, one.at_s - (30 if at < 50 else 0) + (30 if at >= 950 else 0))
        for at, one in enumerate(answered(inputs))
    ]
    assert Traffic(inputs, slow_ends).steady_rate() == pytest.approx(PER_S)


def test_a_stall_of_one_partition_is_seen_there_and_not_overall() -> None:
    inputs = came(60)
    traffic = Traffic(inputs, stalled(inputs, partition=1, from_s=20.0, to_s=26.0))
    effect = traffic.effect(Move("loss", 20.0, 50.0))
    assert effect.partition_pause_s == pytest.approx(6.0, abs=0.3)
    assert effect.pause_s < 0.5
    assert effect.calm_s < 0.5
    assert effect.longest_wait_s == pytest.approx(6.0, abs=0.3)
    assert effect.lag_peak == pytest.approx(6 * PER_S / 2, abs=2)
    assert effect.recovered_s == pytest.approx(6.0, abs=0.3)


def test_a_move_that_disturbs_nothing_is_recovered_from_at_once() -> None:
    inputs = came(60)
    assert Traffic(inputs, answered(inputs)).effect(Move("join", 20.0, 50.0)).recovered_s == 0.0


def test_lag_that_stays_is_not_recovered_from() -> None:
    inputs = came(60)
    traffic = Traffic(inputs, stalled(inputs, partition=0, from_s=20.0, to_s=59.0))
    effect = traffic.effect(Move("loss", 20.0, 50.0))
    assert effect.recovered_s is None
    assert effect.partition_pause_s == pytest.approx(30.0, abs=0.3)  # as far as it was looked at


def test_a_gap_counts_from_the_moment_before_and_to_the_end() -> None:
    assert longest_gap([1.0, 5.0, 6.0], 4.0, 7.0) == 4.0
    assert longest_gap([1.0, 2.0], 1.5, 9.0) == 7.0
    assert longest_gap([], 2.0, 5.0) == 3.0


def test_lost_and_repeated_and_foreign_outputs_are_counted() -> None:
    inputs = came(10)
    outputs = answered(inputs)
    traffic = Traffic(inputs, [*outputs[1:], outputs[5], Output("t-9-9", 3.0)])
    assert (traffic.lost, len(traffic.again), traffic.unknown) == (1, 1, 1)


def test_what_is_repeated_after_a_kill_is_told_from_the_rest() -> None:
    inputs = came(10)
    again = [Output("t-0-0", 6.0), Output("t-0-1", 2.0)]
    assert Traffic(inputs, [*answered(inputs), *again]).twice([5.0], 4.0) == {"by loss": 1, "unasked": 1}


def test_without_outputs_there_is_nothing_to_tell() -> None:
    with pytest.raises(ValueError, match="nothing came out"):
        Traffic(came(1), [])


def throughput(processes: int, per_s: float, **changed: Any) -> dict[str, Any]:
    figures = {"case": "throughput", "protocol": "classic", "delivery": "at_least_once", "heartbeat_s": 3.0}
    counted = {"lost": 0, "twice": 0, "unknown": 0, "exit_codes": [0] * processes, "restarts": 0}
    return {**figures, **counted, "processes": processes, "per_s": per_s, **changed}


def moved(**changed: Any) -> dict[str, Any]:
    effect = {
        "what": "join", "pause_s": 0.1, "partition_pause_s": 3.0, "calm_s": 0.1, "longest_wait_s": 3.1,
        "lag_before": 10, "lag_peak": 300, "recovered_s": 7.0,
    }  # fmt: skip
    figures = {"case": "moves", "protocol": "classic", "delivery": "exactly_once", "heartbeat_s": 3.0}
    counted = {"lost": 0, "twice": 0, "unknown": 0, "exit_codes": [0], "restarts": 0, "twice_by_loss": 0}
    return {**figures, **counted, "effects": [effect], **changed}


GOOD = [throughput(1, 199.0), throughput(1, 201.0), throughput(2, 398.0), throughput(4, 780.0), moved()]


def test_rates_are_medians_and_ratios_to_one_process() -> None:
    per_s, ratio = rates(GOOD)["classic", "at_least_once", 4]
    assert (per_s, round(ratio, 3)) == (780.0, 3.9)
    assert failures(GOOD) == []


@pytest.mark.parametrize(
    ("wrong", "failure"),
    [
        (throughput(4, 420.0), "4 processes do 3.00 times what one does"),
        (throughput(1, 200.0, lost=1), "lost"),
        (throughput(1, 200.0, twice=1), "twice"),
        (throughput(1, 200.0, exit_codes=[1]), "exit code"),
        (moved(twice_by_loss=1), "twice under exactly_once"),
        (moved(unknown=1), "of no record"),
        (moved(restarts=1), "ended by itself"),
        (moved(effects=[{**moved()["effects"][0], "recovered_s": None}]), "lag did not recover"),
    ],
)
def test_each_way_to_fail_is_seen(wrong: dict[str, Any], failure: str) -> None:
    assert any(failure in one for one in failures([*GOOD, wrong]))


def test_a_kill_may_repeat_records_under_at_least_once() -> None:
    assert failures([moved(delivery="at_least_once", twice_by_loss=7)]) == []


def test_a_static_member_of_the_consumer_protocol_may_be_turned_away_until_its_session_is_over() -> None:
    assert failures([moved(case="static", protocol="consumer", restarts=4)]) == []


def test_tables_hold_medians_and_what_is_wrong() -> None:
    out = StringIO()
    show(Console(file=out, width=150), [*GOOD, moved(lost=2)])
    assert "3.90" in out.getvalue()
    assert "wrong: moves, classic, exactly_once: lost" in out.getvalue()
