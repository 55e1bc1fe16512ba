"""The short form of `python -m load_tests.faults.run`, for continuous integration: the same faults, fewer of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from load_tests.faults.cluster import Cluster
from load_tests.faults.ordeal import Demand, endure

if TYPE_CHECKING:
    from tests.kafka.conftest import KafkaCluster

pytestmark = pytest.mark.kafka

RECORDS = 5000


@pytest.mark.timeout(240)
def test_nothing_lost_and_nothing_twice_while_processes_and_a_coordinator_are_killed(
    whole_cluster: KafkaCluster, tmp_path: Path
) -> None:
    demand = Demand(
        delivery="exactly_once",
        records=RECORDS,
        partitions=6,
        consumers=2,
        kills=3,
        broker_kills=1,
        pauses=0,
        restarts=1,
        visits=False,
        static_members=False,
        session_timeout_ms=6000,
        service_time_ms=5.0,
        max_uncommitted_records=500,
        seed=2,
        deadline_s=150.0,
    )
    cluster = Cluster(whole_cluster.bootstrap_servers, whole_cluster.environment)
    outcome = endure(cluster, demand, tmp_path, Console(quiet=True))
    happened = outcome.happenings
    assert outcome.verdict.holds, (outcome, (tmp_path / "events.jsonl").read_text(encoding="utf-8"))
    assert (happened["kill -9"], happened["kill -9 of a broker"]) == (3, 1)
    assert outcome.verdict.inputs == RECORDS
    assert (outcome.verdict.lost, outcome.verdict.duplicates) == (0, 0)
    assert outcome.verdict.samples > 0
