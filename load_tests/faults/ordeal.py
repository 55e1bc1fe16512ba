"""One fault run from the first record to the verdict.

Enters: a cluster and what is demanded. Leaves: a verdict, and what was done and happened meanwhile.
Must not know: how settings, schedules and verdicts come about.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.console import Console

from load_tests.faults.assault import Assault, Brokers, Visitor
from load_tests.faults.checker import judge
from load_tests.faults.cluster import Cluster
from load_tests.faults.evidence import Delivery, Evidence, Rules, Verdict
from load_tests.faults.fleet import Fleet, causes
from load_tests.faults.scene import Scene, scene
from load_tests.faults.schedule import plan
from load_tests.faults.traffic import Work
from load_tests.faults.watch import stopping
from streamer.terminal import progress_bar

TICK_S = 0.02
GRACE_S = 30.0
DRAIN_S = 10.0
MEMORY_MB = 400.0
WINDOW_RECORDS = 64
VISITOR = "visitor"


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run is made of."""

    delivery: Delivery
    records: int
    partitions: int
    consumers: int
    kills: int
    broker_kills: int
    pauses: int
    restarts: int
    visits: bool
    static_members: bool
    session_timeout_ms: int
    service_time_ms: float
    max_uncommitted_records: int
    seed: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """`happenings` counts what stands in the journal; `causes`: why processes ended by themselves; `longest_silence_s`:
    the longest time in which nothing came out while there was work."""

    demand: Demand
    verdict: Verdict
    seconds: float
    longest_silence_s: float
    happenings: Mapping[str, int]
    causes: Mapping[str, int]
    samples_missed: Mapping[str, int]
    troubles: tuple[str, ...]  # errors that the concurrent reader was told
    peak_memory_mb: float


def endure(cluster: Cluster, demand: Demand, folder: Path, console: Console) -> Outcome:
    """Carry a run out; its journal and logs go to `folder`. Raises LoadTestError when it cannot be carried out."""

    def work(names: Mapping[str, str]) -> Work:
        return Work(
            bootstrap_servers=cluster.bootstrap_servers,
            names=names,
            delivery=demand.delivery,
            static_members=demand.static_members,
            session_timeout_ms=demand.session_timeout_ms,
            service_time_ms=demand.service_time_ms,
            window_records=WINDOW_RECORDS,
            max_uncommitted_records=demand.max_uncommitted_records,
            drain_timeout_s=DRAIN_S,
        )

    with scene(
        cluster.bootstrap_servers,
        partitions=demand.partitions,
        count=demand.records,
        seed=demand.seed,
        folder=folder,
        work=work,
    ) as around:
        slots = [f"slot{number}" for number in range(demand.consumers)]
        fleet = Fleet(
            slots=slots,
            waiting=[VISITOR],
            settings=around.work.settings,
            folder=folder,
            journal=around.journal,
            grace_s=GRACE_S,
        )
        with stopping(fleet):
            _strain(cluster, demand, around, fleet, slots, console)
            found = around.evidence(fleet)
    return _outcome(demand, found, around)


def _strain(
    cluster: Cluster, demand: Demand, around: Scene, fleet: Fleet, slots: Sequence[str], console: Console
) -> None:
    """Until all faults have come and everything is committed, or the deadline has passed."""
    faults = plan(
        seed=demand.seed,
        slots=slots,
        kills=demand.kills,
        pauses=demand.pauses,
        restarts=demand.restarts,
        broker_kills=demand.broker_kills,
        session_timeout_s=demand.session_timeout_ms / 1000,
    )
    brokers = Brokers(cluster=cluster, work=around.work, fleet=fleet, journal=around.journal)
    assault = Assault(faults=faults, fleet=fleet, brokers=brokers)
    visitor = Visitor(slot=VISITOR, fleet=fleet, draw=random.Random(demand.seed))
    told = 0
    with progress_bar(console, "came out", demand.records) as advance:
        while not (assault.over and around.done):
            fleet.tick()
            assault.tick(around.watcher.ended / demand.records)
            if demand.visits:
                visitor.tick()
            advance(around.watcher.ended - told)
            told = around.watcher.ended
            if around.journal.clock() > demand.deadline_s:
                around.journal.note("deadline", "all", f"{told:,} of {demand.records:,} records have come out")
                return
            time.sleep(TICK_S)


def _outcome(demand: Demand, found: Evidence, around: Scene) -> Outcome:
    rules = Rules(
        delivery=demand.delivery,
        max_uncommitted_records=demand.max_uncommitted_records,
        memory_mb=MEMORY_MB,
        grace_s=GRACE_S,
    )
    arrivals = [one.arrival_s for one in around.watcher.seen]
    return Outcome(
        demand=demand,
        verdict=judge(found, rules),
        seconds=round(arrivals[-1], 1) if arrivals else 0.0,
        longest_silence_s=round(max((after - before for before, after in pairwise(arrivals)), default=0.0), 1),
        happenings=around.journal.counts(),
        causes=causes(around.journal),
        samples_missed=dict(around.sampler.missed),
        troubles=tuple(around.watcher.troubles),
        peak_memory_mb=round(max((one.rss_mb for one in found.memory), default=0.0), 1),
    )
