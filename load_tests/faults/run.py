"""Kills, pauses and rebalances of `streamer run`, and kills of brokers, on Apache Kafka: nothing lost, nothing twice.

    python -m load_tests.faults.run [--delivery exactly_once] [--records 100000] [--kills 20] [--broker-kills 5] ...

Three brokers are started for the run and stopped after it. Records wait in a topic of 12 partitions; processes with
the model `fake` label them while a schedule drawn from `--seed` befalls them: kill -9, SIGSTOP for longer than the
session timeout, SIGTERM, a member that comes and goes all the time, kill -9 of brokers by their role. A supervisor
starts again whatever ends. A read_committed reader runs all the while, and committed offsets are sampled. When
everything is committed, all processes get SIGTERM, everything is read again and judged. Exit code 1 when an invariant
was broken. What happened stands in a folder under runs/: events.jsonl, the processes' logs and settings, verdict.json.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from load_tests.faults.cluster import three_brokers
from load_tests.faults.ordeal import Demand, endure
from load_tests.faults.report import delivery_named, show, summary
from load_tests.harness import exit_with


def main(
    delivery: Annotated[str, typer.Option(help="exactly_once or at_least_once.")] = "exactly_once",
    records: Annotated[int, typer.Option(min=1000, help="How many.")] = 100_000,
    consumers: Annotated[int, typer.Option(min=2, help="Processes beside the one that comes and goes.")] = 3,
    kills: Annotated[int, typer.Option(min=0, help="kill -9 of a process.")] = 20,
    broker_kills: Annotated[int, typer.Option(min=0, help="kill -9 of a broker.")] = 5,
    pauses: Annotated[int, typer.Option(min=0, help="SIGSTOP longer than the session timeout.")] = 4,
    restarts: Annotated[int, typer.Option(min=0, help="SIGTERM and a new start.")] = 4,
    visits: Annotated[bool, typer.Option(help="A member that joins and leaves all the time.")] = True,
    static: Annotated[bool, typer.Option(help="Static membership.")] = False,
    service_time_ms: Annotated[float, typer.Option(min=0, help="Of a record.")] = 8.0,
    max_uncommitted_records: Annotated[int, typer.Option(min=1, help="Of each process.")] = 500,
    seed: Annotated[int, typer.Option(help="Of records and schedule.")] = 1,
    deadline_s: Annotated[float, typer.Option(min=1, help="For everything to be committed.")] = 1800.0,
    folder: Annotated[Path, typer.Option(help="Where a folder for this run is made.")] = Path("runs"),
) -> None:
    """Run a schedule of faults and judge what came of it."""

    def test() -> bool:
        demand = Demand(
            delivery=delivery_named(delivery),
            records=records,
            partitions=12,
            consumers=consumers,
            kills=kills,
            broker_kills=broker_kills,
            pauses=pauses,
            restarts=restarts,
            visits=visits,
            static_members=static,
            session_timeout_ms=6000,
            service_time_ms=service_time_ms,
            max_uncommitted_records=max_uncommitted_records,
            seed=seed,
            deadline_s=deadline_s,
        )
        console = Console(stderr=True)
        place = folder / time.strftime(f"faults-{delivery}-%Y%m%d-%H%M%S")
        place.mkdir(parents=True)
        console.print(f"events and logs: {place}")
        with tempfile.TemporaryDirectory() as home, three_brokers(Path(home)) as cluster:
            outcome = endure(cluster, demand, place, console)
        show(console, outcome)
        told = orjson.dumps(summary(outcome))
        (place / "verdict.json").write_bytes(told)
        print(told.decode(), flush=True)
        return outcome.verdict.holds

    exit_with(test)


if __name__ == "__main__":
    typer.run(main)
