"""A seed decides a schedule, and a schedule has all that was asked for."""

from __future__ import annotations

from collections import Counter

from load_tests.faults.schedule import FIRST, LAST, Fault, plan


def drawn(seed: int) -> tuple[Fault, ...]:
    return plan(seed=seed, slots=["a", "b", "c"], kills=20, pauses=4, restarts=3, broker_kills=5, session_timeout_s=6.0)


def test_it_is_decided_by_its_seed() -> None:
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_all_faults_come_in_order_and_leave_time_to_end() -> None:
    faults = drawn(3)
    assert Counter(fault.kind for fault in faults) == {"kill": 20, "pause": 4, "restart": 3, "kill_broker": 5}
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    assert faults[0].at >= FIRST
    assert faults[-1].at <= LAST


def test_every_role_of_a_broker_is_met() -> None:
    roles = [fault.role for fault in drawn(1) if fault.kind == "kill_broker"]
    assert roles[:2] == ["group coordinator", "transaction coordinator"]
    assert len(set(roles)) == 4
