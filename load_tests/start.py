"""From the start of `streamer run` to ready, with the bundled model on Apache Kafka: how long, and what takes it.

    python -m load_tests.start [--runs 5]

Every run is a new process and a new consumer group; ready is the first answer 200 of /readyz: the model is warm and the
group joined. One run before the others brings files into the system's memory, so all figures are of warm starts; what a
disk adds to the first one is not in them. Phases come from the process's own log:

- `settings`: interpreter, settings, Kafka client, the question for topics, the port that answers health
- `load`: PyTorch and the engine imported, weights read and laid out
- `warm_up`: label sets encoded, one short text scored with each
- `join`: metadata, the group, partitions, and up to ASK_S until it is seen

A last run, not counted, is told to time its imports (python -X importtime, which slows them down), each charged to the
outermost package that asked for it. Exit code 1 when the median exceeds GOAL_S or a process does not end with 0.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from statistics import median
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from load_tests.delivery_cost import settings
from load_tests.harness import LoadTestError, exit_with, fresh_names, kafka_broker
from load_tests.process import StreamerRun, streamer_run
from streamer.terminal import progress_bar

GOAL_S = 8.0
READY_S = 120.0
PARTITIONS = 6
PACKAGES = (
    *("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "numpy", "confluent_kafka", "pydantic"),
    *("prometheus_client", "starlette", "uvicorn", "structlog", "typer", "rich", "yaml", "orjson"),
)
OTHER = "other"
MOST_PACKAGES = 10

_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| ( *)([\w.]+)$")


@dataclass(frozen=True, slots=True)
class Start:
    """One start, in seconds; the phases add up to `ready`, `cpu` is what the process computed until then."""

    ready: float
    cpu: float
    settings: float
    load: float
    warm_up: float
    join: float


def main(runs: Annotated[int, typer.Option(min=1, help="Counted starts.")] = 5) -> None:
    """Start some processes, one after the other."""
    exit_with(lambda: measure(Console(stderr=True), runs))


def measure(console: Console, runs: int) -> bool:
    """True when all went well; prints tables, and the figures as the last line."""
    starts: list[Start] = []
    codes: set[int] = set()
    with kafka_broker() as servers, progress_bar(console, "starts", runs + 2) as advance:
        for i in range(runs + 1):
            start, code, _ = one_start(servers)
            codes.add(code)
            if i:
                starts.append(start)
            advance(1)
        _, code, log = one_start(servers, interpreter=("-X", "importtime"))
        codes.add(code)
        advance(1)
    imports = {name: round(seconds, 3) for name, seconds in import_shares(log).most_common(MOST_PACKAGES)}
    found = figures(starts)
    show(console, starts, imports)
    print(orjson.dumps({**found, "runs": runs, "imports": imports, "exit_codes": sorted(codes)}).decode(), flush=True)
    return found["ready"] <= GOAL_S and codes == {0}


def one_start(servers: str, interpreter: Sequence[str] = ()) -> tuple[Start, int, list[str]]:
    """Start a process, wait until it is ready, stop it: its times, its exit code, its log."""
    with fresh_names(servers, partitions=PARTITIONS, topics=("in", "out", "dead")) as names:
        began_s = time.time()
        one = settings(servers, names["in"], names, "at_least_once", "bundled")
        with streamer_run(one, interpreter=interpreter) as process:
            start = seen_start(process, began_s)
            code = process.terminate()
            return start, code, process.log_lines()


def seen_start(process: StreamerRun, began_s: float) -> Start:
    """What a process shows of its start, which was at `began_s`, seconds since 1970."""
    process.wait_ready(READY_S)
    ready_s, cpu_s = time.time() - began_s, process.cpu_s()
    for event in events(process.log_lines()):
        if event["event"] == "model ready":
            warm_s = datetime.fromisoformat(event["timestamp"]).timestamp() - began_s
            load_s, warm_up_s = float(event["load_s"]), float(event["warm_up_s"])
            return Start(
                ready=ready_s,
                cpu=cpu_s,
                settings=warm_s - load_s - warm_up_s,
                load=load_s,
                warm_up=warm_up_s,
                join=ready_s - warm_s,
            )
    raise LoadTestError("the log does not say when the model was ready")


def events(lines: Iterable[str]) -> list[Mapping[str, Any]]:
    """What of a log is JSON."""
    return [orjson.loads(line) for line in lines if line.startswith("{")]


def import_shares(lines: Iterable[str]) -> Counter[str]:
    """Seconds by package, from what -X importtime prints: a module after those it imports, which are set in by two.

    The time of a module goes to the outermost of PACKAGES that led to it.
    """
    shares: Counter[str] = Counter()
    asking: list[tuple[int, str]] = []  # from outermost to innermost: how far set in, charged to
    for self_us, indent, module in reversed([found.groups() for line in lines if (found := _IMPORT.match(line))]):
        while asking and asking[-1][0] >= len(indent):
            asking.pop()
        package = module.partition(".")[0]
        owner = asking[-1][1] if asking else OTHER
        if owner == OTHER and package in PACKAGES:
            owner = package
        asking.append((len(indent), owner))
        shares[owner] += int(self_us) / 1e6  # type: ignore[assignment]
    return shares


def figures(starts: Sequence[Start]) -> dict[str, float]:
    """The median of every time."""
    return {one.name: round(median(getattr(start, one.name) for start in starts), 2) for one in fields(Start)}


def show(console: Console, starts: Sequence[Start], imports: Mapping[str, float]) -> None:
    """A line for each start, and the packages that took longest to import."""
    table = Table(title="start to ready, seconds", title_justify="left")
    for one in fields(Start):
        table.add_column(one.name, justify="right")
    for start in starts:
        table.add_row(*(f"{value:.2f}" for value in asdict(start).values()))
    console.print(table)
    console.print("imports, seconds under -X importtime: " + ", ".join(f"{one} {s:.2f}" for one, s in imports.items()))


if __name__ == "__main__":
    typer.run(main)
