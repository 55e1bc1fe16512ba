"""Whether a process is steady: its memory, its place in the group, the pauses of its loop.

Enters: a running `streamer run`, and what beats.py wrote. Leaves: samples over time, the spread of pauses by stage.
Must not know: what makes it unsteady.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.samples import Sample as Series

from load_tests.process import StreamerRun
from load_tests.spread import percentile

SAMPLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at one moment, by its own metrics. `rebalances`: event -> how often; `paused_s`: stage -> longest."""

    at_s: float
    rss_mb: float
    ended: int
    rewinds: int
    rebalances: dict[str, int]
    paused_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class StagePauses:
    """Pauses of the loop in a stage, milliseconds. `own`: without the time in which there was no core for it."""

    stage: str
    count: int
    p99_ms: float
    max_ms: float
    own_p99_ms: float
    own_max_ms: float


def watch(process: StreamerRun, records: int, for_s: float, *, began_s: float = 0.0) -> list[Sample]:
    """Samples until all records have ended, or the time is over; they count their seconds from `began_s`."""
    start_s = time.monotonic()
    samples = [sample(process.series(), began_s)]
    while samples[-1].ended < records and time.monotonic() - start_s < for_s:
        time.sleep(SAMPLE_S)
        samples.append(sample(process.series(), began_s + time.monotonic() - start_s))
    return samples


def sample(scrape: Sequence[Series], at_s: float) -> Sample:
    """What a scrape says."""

    def total(*names: str) -> float:
        return sum(one.value for one in scrape if one.name in names)

    def by_label(name: str, label: str) -> dict[str, float]:
        return {one.labels[label]: one.value for one in scrape if one.name == name}

    return Sample(
        at_s=at_s,
        rss_mb=total("process_resident_memory_bytes") / 2**20,
        ended=int(total("streamer_records_published_total", "streamer_records_dead_lettered_total")),
        rewinds=int(total("streamer_rewinds_total")),
        rebalances={event: int(count) for event, count in by_label("streamer_rebalances_total", "event").items()},
        paused_s=by_label("streamer_loop_longest_pause_seconds", "stage"),
    )


def by_stage(pauses: Mapping[str, Sequence[tuple[float, float]]]) -> tuple[StagePauses, ...]:
    """(seconds, of them without a core) of every pause, by stage -> their spread, the longest first."""
    found = []
    for stage, some in pauses.items():
        whole = [1000 * seconds for seconds, _ in some]
        own = [1000 * (seconds - waited_s) for seconds, waited_s in some]
        spread = (percentile(whole, 0.99), max(whole), percentile(own, 0.99), max(own))
        found.append(StagePauses(stage, len(some), *(round(value, 2) for value in spread)))
    return tuple(sorted(found, key=lambda one: -one.own_max_ms))


def longest_by_stage(samples: Sequence[Sample]) -> dict[str, float]:
    """Milliseconds."""
    longest: dict[str, float] = {}
    for one in samples:
        for stage, seconds in one.paused_s.items():
            longest[stage] = max(longest.get(stage, 0.0), round(1000 * seconds, 1))
    return longest
