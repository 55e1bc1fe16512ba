"""SIGTERM under load: every process drains, commits and ends with exit code 0 in time, and nothing is done twice.

    python -m load_tests.faults.sigterm [--delivery at_least_once] [--times 20]

One process after the other works on a backlog and gets SIGTERM at a random moment; the next one goes on where it
stopped. The last one works the backlog off. Clean stops repeat nothing, under either promise. Exit code 1 when one
stop went wrong, or a record was lost or came out twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import orjson
import typer
from rich.console import Console

from load_tests.faults.checker import judge
from load_tests.faults.evidence import Delivery, Rules
from load_tests.faults.fleet import Fleet
from load_tests.faults.report import delivery_named, show_verdict
from load_tests.faults.scene import Scene, scene
from load_tests.faults.traffic import Work
from load_tests.faults.watch import stopping
from load_tests.harness import LoadTestError, exit_with, kafka_broker
from streamer.terminal import progress_bar

SLOT = "slot0"
PARTITIONS = 6
WORK_S = (0.0, 3.0)  # from the first record that comes out of a process until its SIGTERM
RECORDS_EACH = 1200  # more than a process can label in that time
SERVICE_TIME_MS = 3.0
WINDOW_RECORDS = 64
UNCOMMITTED_RECORDS = 500
SESSION_TIMEOUT_MS = 6000
GRACE_S = 30.0
DRAIN_S = 10.0
MEMORY_MB = 400.0
TICK_S = 0.02
TURN_S = 60.0


def main(
    delivery: Annotated[str, typer.Option(help="exactly_once or at_least_once.")] = "at_least_once",
    times: Annotated[int, typer.Option(min=1, help="How often.")] = 20,
    seed: Annotated[int, typer.Option(help="Of records and moments.")] = 1,
) -> None:
    """Stop a process under load again and again, and judge what came of it."""
    exit_with(lambda: run_sigterm(Console(stderr=True), delivery_named(delivery), times, seed))


def run_sigterm(console: Console, delivery: Delivery, times: int, seed: int) -> bool:
    """True when all went well; prints a table, and the figures as the last line."""

    def work(names: Mapping[str, str]) -> Work:
        return Work(
            bootstrap_servers=servers,
            names=names,
            delivery=delivery,
            static_members=False,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            service_time_ms=SERVICE_TIME_MS,
            window_records=WINDOW_RECORDS,
            max_uncommitted_records=UNCOMMITTED_RECORDS,
            drain_timeout_s=DRAIN_S,
        )

    count = times * RECORDS_EACH
    with (
        kafka_broker() as servers,
        TemporaryDirectory() as name,
        scene(servers, partitions=PARTITIONS, count=count, seed=seed, folder=Path(name), work=work) as around,
    ):
        fleet = Fleet(
            slots=[SLOT],
            waiting=[],
            settings=around.work.settings,
            folder=Path(name),
            journal=around.journal,
            grace_s=GRACE_S,
        )
        with stopping(fleet):
            _stop_often(console, around, fleet, times, random.Random(seed))
            found = around.evidence(fleet)
    rules = Rules(delivery=delivery, max_uncommitted_records=UNCOMMITTED_RECORDS, memory_mb=MEMORY_MB, grace_s=GRACE_S)
    verdict = judge(found, rules)
    show_verdict(console, verdict)
    under_load = found.stops[:times]  # the last process had nothing left to do
    seconds = sorted(one.seconds for one in under_load)
    clean = sum(one.exit_code == 0 and one.seconds <= GRACE_S for one in under_load)
    told = {
        "stops": len(under_load),
        "clean_stops": clean,
        "median_s": round(seconds[len(seconds) // 2], 2),
        "longest_s": round(seconds[-1], 2),
        "ended_by_itself": around.journal.count("ended by itself"),
        **verdict.as_json(),
    }
    print(orjson.dumps(told).decode(), flush=True)
    return verdict.holds and verdict.duplicates == 0


def _stop_often(console: Console, around: Scene, fleet: Fleet, times: int, draw: random.Random) -> None:
    """SIGTERM so often; then let the last process work the backlog off."""
    with progress_bar(console, "stopped", times) as advance:
        for _ in range(times):
            _stop_once(around, fleet, draw.uniform(*WORK_S))
            advance(1)
    _tick_until(fleet, lambda: around.done, "did not work the backlog off", timeout_s=10 * TURN_S)


def _stop_once(around: Scene, fleet: Fleet, work_s: float) -> None:
    """SIGTERM so long after the first record of a process came out, and wait for its end."""
    before, stops = around.watcher.ended, len(fleet.stops)
    _tick_until(fleet, lambda: around.watcher.ended > before, "labelled nothing")
    moment_s = time.monotonic() + work_s
    _tick_until(fleet, lambda: time.monotonic() >= moment_s, "")
    if around.done:
        raise LoadTestError("the backlog was worked off before all stops; this machine is too fast for it")
    _tick_until(fleet, lambda: fleet.terminate(SLOT, restart=True), "was never up")
    _tick_until(fleet, lambda: len(fleet.stops) > stops, "did not end")


def _tick_until(fleet: Fleet, met: Callable[[], bool], what: str, timeout_s: float = TURN_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not met():
        if time.monotonic() > deadline_s:
            raise LoadTestError(f"the process {what} in {timeout_s:g} s")
        fleet.tick()
        time.sleep(TICK_S)


if __name__ == "__main__":
    typer.run(main)
