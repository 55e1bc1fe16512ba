"""Makes the faults of a schedule happen, each when it is due and can be.

Enters: Faults, the fleet, a cluster. Leaves: signals and notes in the journal. Whoever runs the test calls `tick`
often. Must not know: what is read or judged.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from confluent_kafka import KafkaException

from load_tests.faults.cluster import GROUPS, TRANSACTIONS, Cluster
from load_tests.faults.fleet import Fleet
from load_tests.faults.journal import Journal
from load_tests.faults.schedule import Fault, Role
from load_tests.faults.traffic import Work, transactional_id
from load_tests.harness import LoadTestError

LOOK_S = 1.0
STAY_S, AWAY_S = (3.0, 9.0), (1.0, 4.0)


class Assault:
    """Faults still to come. A fault waits until its process is old enough and nothing else is done to it."""

    def __init__(self, *, faults: Sequence[Fault], fleet: Fleet, brokers: Brokers) -> None:
        self._faults = list(faults)
        self._fleet = fleet
        self._brokers = brokers

    @property
    def over(self) -> bool:
        return not self._faults and self._brokers.whole

    def tick(self, share: float) -> None:
        """`share`: of all records, those that have come out."""
        self._brokers.tick()
        self._faults = [fault for fault in self._faults if fault.at > share or not self._strike(fault)]

    def _strike(self, fault: Fault) -> bool:
        if fault.kind == "kill_broker":
            return self._brokers.kill(fault)
        if self._fleet.age_s(fault.slot) < fault.age_s:
            return False
        if fault.kind == "kill":
            return self._fleet.kill(fault.slot)
        if fault.kind == "pause":
            return self._fleet.pause(fault.slot, fault.pause_s)
        return self._fleet.terminate(fault.slot, restart=True)


class Brokers:
    """Kills brokers, one at a time, and brings them back."""

    def __init__(self, *, cluster: Cluster, work: Work, fleet: Fleet, journal: Journal) -> None:
        self._cluster = cluster
        self._work = work
        self._fleet = fleet
        self._journal = journal
        self._down: int | None = None
        self._back_s = 0.0
        self._starting: subprocess.Popen[bytes] | None = None
        self._look_s = 0.0

    @property
    def whole(self) -> bool:
        """All of them are there, their replicas in sync."""
        return self._down is None

    def kill(self, fault: Fault) -> bool:
        """False while another one is away, or nobody knows who has the role."""
        if self._down is not None:
            return False
        try:
            node = self._holder(fault.role, fault.slot)
        except KafkaException:
            return False
        if node < 1:
            return False
        self._cluster.kill(node)
        self._journal.note("kill -9 of a broker", f"broker {node}", f"{fault.role}; away for {fault.down_s:.1f} s")
        self._fleet.disturb_all()
        self._down, self._back_s = node, time.monotonic() + fault.down_s
        return True

    def tick(self) -> None:
        """Start what is due, and see whether replicas have caught up."""
        now = time.monotonic()
        if self._down is None or now < self._back_s:
            return
        if self._starting is None:
            self._starting = self._cluster.start(self._down)
        elif self._starting.poll() is not None and now >= self._look_s:
            if self._starting.returncode != 0:
                raise LoadTestError(f"broker {self._down} did not start again")
            self._look_s = now + LOOK_S
            with suppress(KafkaException):
                if self._cluster.whole():
                    self._journal.note("broker back", f"broker {self._down}")
                    self._down = self._starting = None

    def _holder(self, role: Role, slot: str) -> int:
        names = self._work.names
        if role == "group coordinator":
            return self._cluster.coordinator(GROUPS, names["group"])
        if role == "transaction coordinator":
            return self._cluster.coordinator(TRANSACTIONS, transactional_id(names["group"], slot))
        if role == "leader of an output":
            return self._cluster.leader(names["out"], 0)
        return self._cluster.leader(names["in"], 0)


class Visitor:
    """A member that joins and leaves, so that partitions never rest."""

    def __init__(self, *, slot: str, fleet: Fleet, draw: random.Random) -> None:
        self._slot = slot
        self._fleet = fleet
        self._draw = draw
        self._turn_s = 0.0

    def tick(self) -> None:
        now = time.monotonic()
        if now < self._turn_s:
            return
        if not self._fleet.runs(self._slot):
            self._fleet.start(self._slot)
            self._turn_s = now + self._draw.uniform(*STAY_S)
        elif self._fleet.terminate(self._slot, restart=False):
            self._turn_s = now + self._draw.uniform(*AWAY_S)
