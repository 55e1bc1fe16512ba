"""One, two and four processes on a topic of 12 partitions: what each adds, and what it costs when one comes or goes.

    python -m load_tests.scale [--case throughput] [--protocol consumer] [--rounds 3] [--results FILE.jsonl]

Each process is `streamer run` with the model `fake` and 5 ms a record, so that the engine and not the processor is what
all wait for: 200 records a second each at most. Every moment is the broker's own: the topics keep the time at which it
appended a message (LogAppendTime), and all is read back at the end.

`throughput`: a backlog, and 1, 2 and 4 processes by turns; the rate of the middle 80 % of the records.
`moves`: three processes under an open loop of 60 % of what four can do; one joins, one leaves by SIGTERM, one joins,
one is killed and stays away. `static`: four static members; one is restarted by SIGTERM, one killed and started again,
both in their own place. For each: the longest time without output, and how long lag takes to be as before. The session
lasts 10 s (librdkafka's and the broker's default is 45 s), heartbeats are as by default: 3 s apart in the classic
protocol, 5 s in the consumer protocol.

A long run can be made in pieces: --results adds to a file, and the tables are of all that stands in it. Exit code 1
when a record is lost, comes twice without a kill or, under exactly_once, at all, lag does not recover, a process does
not end with exit code 0, or N processes do less than 0.85 * N times what one does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from load_tests.harness import LoadTestError, exit_with, fresh_names, kafka_broker
from load_tests.reading import read_all
from load_tests.scale_figures import Input, Move, Output, Traffic
from load_tests.scale_group import PARTITIONS, RESTART_S, Group, Sender, Terms, group, offering
from load_tests.scale_report import MovesRun, ThroughputRun, failures, show

CASES, PROTOCOLS, PROMISES = (
    ("throughput", "moves", "static"),
    ("classic", "consumer"),
    ("at_least_once", "exactly_once"),
)
PROCESSES = (1, 2, 4)
SERVICE_MS = 5.0
WINDOW_RECORDS = 64
SESSION_S = 10.0
HEARTBEATS_S = {"classic": 3.0, "consumer": 5.0}  # librdkafka's and the broker's defaults
BACKLOG_S = 20.0  # of work for each process
LOAD = 0.6
MOST = 4
CALM_S = 10.0
USUAL_LAG_S = 0.5  # of records, that may wait while members are calm
CAUGHT_UP_S = 60.0
IDLE_S = 60.0
APPENDED = {"message.timestamp.type": "LogAppendTime"}
TOPICS = ("in", "out", "dead")
WIDTH = 150  # of the tables


@dataclass(frozen=True, slots=True)
class Plan:
    """A run to make."""

    case: str
    protocol: str
    delivery: str
    heartbeat_s: float

    @property
    def static(self) -> bool:
        return self.case == "static"

    @property
    def told(self) -> str:
        return f"{self.case}, {self.protocol}, {self.delivery}"


def main(
    case: Annotated[list[str] | None, typer.Option(help="throughput, moves or static; all without it.")] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="classic or consumer (KIP-848); both without it.")] = None,
    delivery: Annotated[str, typer.Option(help="at_least_once or exactly_once.")] = "at_least_once",
    heartbeat_s: Annotated[float, typer.Option(min=0, help="Between heartbeats; 0: as by default.")] = 0.0,
    rounds: Annotated[int, typer.Option(min=0, help="How often each; 0: show what --results holds.")] = 3,
    results: Annotated[Path | None, typer.Option(help="Add figures to this file, and show all of it.")] = None,
) -> None:
    """See what processes add, and what it costs when they come and go."""

    def test() -> bool:
        for given, known in ((case, CASES), (protocol, PROTOCOLS), ([delivery], PROMISES)):
            for one in set(given or ()) - set(known):
                raise LoadTestError(f"'{one}' is not one of {', '.join(known)}")
        plans = [
            Plan(one, group_protocol, delivery, heartbeat_s or HEARTBEATS_S[group_protocol])
            for one in case or CASES
            for group_protocol in protocol or PROTOCOLS
        ]
        return run_scale(Console(stderr=True, width=WIDTH), plans * rounds, results)

    exit_with(test)


def run_scale(console: Console, plans: Sequence[Plan], results: Path | None) -> bool:
    """True when all went well; prints a line of figures for each run, and tables of all."""
    lines = results.read_bytes().splitlines() if results is not None and results.exists() else []
    told: list[dict[str, Any]] = [orjson.loads(line) for line in lines]
    if plans:
        told += _all_figures(console, plans, results)
    show(console, told)
    return not failures(told)


def _all_figures(console: Console, plans: Sequence[Plan], results: Path | None) -> Iterator[dict[str, Any]]:
    with kafka_broker() as servers:
        for plan in plans:
            for figures in _figures(console, servers, plan):
                print(orjson.dumps(figures).decode(), flush=True)
                if results is not None:
                    with results.open("ab") as file:
                        file.write(orjson.dumps(figures) + b"\n")
                yield figures


def _figures(console: Console, servers: str, plan: Plan) -> Iterator[dict[str, Any]]:
    common = {"protocol": plan.protocol, "delivery": plan.delivery, "heartbeat_s": plan.heartbeat_s}
    if plan.case != "throughput":
        yield {"case": plan.case, **common, **asdict(moves(console, servers, plan))}
        return
    for processes in PROCESSES:
        yield {"case": plan.case, **common, **asdict(throughput(console, servers, plan, processes))}


def throughput(console: Console, servers: str, plan: Plan, processes: int) -> ThroughputRun:
    """A backlog for so many processes that all have their partitions already."""
    count = int(processes * BACKLOG_S * 1000 / SERVICE_MS)
    with _stage(servers, plan) as (terms, members):
        for _ in range(processes):
            members.start()
        members.wait_settled()
        console.print(f"{plan.told}: {processes} processes are ready, {count:,} records for them", highlight=False)
        sender = Sender(servers, terms.names["in"])
        sender.send(count)
        sender.finish()
        _worked_off(members, 3 * BACKLOG_S + IDLE_S)
        members.stop_all()
        traffic = _traffic(terms)
        return ThroughputRun(
            processes=processes,
            records=count,
            per_s=round(traffic.steady_rate(), 1),
            lost=traffic.lost,
            twice=len(traffic.again),
            unknown=traffic.unknown,
            exit_codes=members.exit_codes,
            restarts=members.restarts,
        )


def moves(console: Console, servers: str, plan: Plan) -> MovesRun:
    """Members come and go under an open loop; what each of these did."""
    per_s = LOAD * MOST * 1000 / SERVICE_MS
    with _stage(servers, plan) as (terms, members):
        for _ in range(MOST if plan.static else MOST - 1):
            members.start()
        members.wait_settled()
        done: list[tuple[str, float]] = []
        with offering(servers, terms.names["in"], per_s) as sent:
            time.sleep(CALM_S)
            for what, move in _moves(members, static=plan.static):
                done.append((what, time.time()))
                console.print(f"{plan.told}: {what} after {sent():,} records", highlight=False)
                move()
                members.wait_settled()
                members.wait_caught_up(USUAL_LAG_S * per_s, CAUGHT_UP_S)
                time.sleep(CALM_S)
        ended_s = time.time()
        _worked_off(members, IDLE_S)
        members.stop_all()
        traffic = _traffic(terms)
        until = [*(at_s for _, at_s in done[1:]), ended_s]
        by_loss = [at_s for what, at_s in done if "kill" in what]
        twice = traffic.twice(by_loss, 2 * SESSION_S)
        return MovesRun(
            session_s=SESSION_S,
            per_s=per_s,
            records=sent(),
            effects=[traffic.effect(Move(what, at_s, to_s)) for (what, at_s), to_s in zip(done, until, strict=True)],
            lost=traffic.lost,
            twice_by_loss=twice["by loss"],
            twice=twice["unasked"],
            unknown=traffic.unknown,
            exit_codes=members.exit_codes,
            restarts=members.restarts,
        )


def _worked_off(members: Group, timeout_s: float) -> None:
    if not members.wait_caught_up(0, timeout_s):
        raise LoadTestError(f"records are still to be read after {timeout_s:g} s")


def _moves(members: Group, *, static: bool) -> Sequence[tuple[str, Callable[[], object]]]:
    def restart(end: Callable[[str], None]) -> Callable[[], object]:
        def move() -> None:
            place = members.oldest()
            end(place)
            time.sleep(RESTART_S)
            members.start(place)

        return move

    if static:
        return (("restart (SIGTERM)", restart(members.terminate)), ("restart (kill -9)", restart(members.kill)))
    return (
        ("join", members.start),
        ("leave (SIGTERM)", lambda: members.terminate(members.oldest())),
        ("join", members.start),
        ("loss (kill -9)", lambda: members.kill(members.oldest())),
    )


@contextmanager
def _stage(servers: str, plan: Plan) -> Iterator[tuple[Terms, Group]]:
    """Fresh topics, and a group without processes."""
    with (
        fresh_names(servers, partitions=PARTITIONS, topics=TOPICS, settings=APPENDED) as names,
        tempfile.TemporaryDirectory() as folder,
    ):
        terms = Terms(
            bootstrap_servers=servers,
            names=names,
            protocol=plan.protocol,
            delivery=plan.delivery,
            static=plan.static,
            session_s=SESSION_S,
            heartbeat_s=plan.heartbeat_s,
            service_ms=SERVICE_MS,
            window_records=WINDOW_RECORDS,
        )
        with group(terms, Path(folder)) as members:
            yield terms, members
        if plan.static:
            time.sleep(
                SESSION_S
            )  # for the group to forget members that only seem to be away; else it cannot be removed


def _traffic(terms: Terms) -> Traffic:
    """All that was sent, and all that a read_committed reader finds of it."""
    servers, names = terms.bootstrap_servers, terms.names
    inputs = {
        f"{names['in']}-{message.partition()}-{message.offset()}": Input(
            message.partition() or 0, message.timestamp()[1] / 1000
        )
        for message in read_all(servers, names["in"])
    }
    outputs = [
        Output(orjson.loads(message.value() or b"")["id"], message.timestamp()[1] / 1000)
        for message in read_all(servers, names["out"])
    ]
    return Traffic(inputs, outputs)


if __name__ == "__main__":
    typer.run(main)
