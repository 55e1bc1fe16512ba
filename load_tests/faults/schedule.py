"""Which faults come when: drawn from a seed, so that a run can be repeated.

Enters: how many of each. Leaves: Faults in order. Must not know: processes, brokers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["kill", "pause", "restart", "kill_broker"]
Role: TypeAlias = Literal["group coordinator", "transaction coordinator", "leader of an output", "any"]

FIRST, LAST = 0.03, 0.88  # share of the records that have come out when the first and the last fault may come
ROLES: tuple[Role, ...] = ("group coordinator", "transaction coordinator", "leader of an output", "any")
LEAST_AGE_S = 6.0
PAUSE_BEYOND_S = (2.0, 5.0)
DOWN_S = (3.0, 8.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` befalls a slot, or the broker in a `role`, when the share `at` of all records has come out. The process
    hit has then run for at least `age_s`; it is paused for `pause_s`, or a broker stays away for `down_s`."""

    at: float
    kind: Kind
    slot: str
    role: Role
    age_s: float
    pause_s: float
    down_s: float


def plan(
    *,
    seed: int,
    slots: Sequence[str],
    kills: int,
    pauses: int,
    restarts: int,
    broker_kills: int,
    session_timeout_s: float,
) -> tuple[Fault, ...]:
    """Faults spread at random over a run, but each kind evenly enough to meet all of it; brokers by role in turn."""
    draw = random.Random(seed)
    counts: dict[Kind, int] = {"kill": kills, "pause": pauses, "restart": restarts, "kill_broker": broker_kills}
    faults = [
        Fault(
            at=FIRST + (LAST - FIRST) * (number + draw.random()) / count,
            kind=kind,
            slot=draw.choice(slots),
            role=ROLES[number % len(ROLES)],
            age_s=draw.uniform(0.5, LEAST_AGE_S),
            pause_s=session_timeout_s + draw.uniform(*PAUSE_BEYOND_S),
            down_s=draw.uniform(*DOWN_S),
        )
        for kind, count in counts.items()
        for number in range(count)
    ]
    return tuple(sorted(faults, key=lambda fault: fault.at))
