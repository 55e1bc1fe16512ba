"""A model or a broker that is far too slow, behind a backlog: memory stays bounded, the member stays in its group.

    python -m load_tests.backpressure [--case slow_model] [--delivery exactly_once]

50,000 records of 10 kB wait in Apache Kafka. `slow_model`: labelling them would take 17 minutes, and is looked at for
90 seconds. `slow_broker`: the events carry their input along, and the broker takes 1 MB of them a second (a quota) for
60 seconds, then as fast as it can: everything must arrive, nothing twice. The session may last 6 s, a poll 15 s. The
process is `streamer run` with an observer of its loop's pauses (beats.py).

Exit code 1 when memory exceeds its bound, partitions go or come after the start, the loop itself stands still for more
than 60 ms outside a rebalance (50 as designed, 10 for waking up; without the time in which there was no core for it), a
record is lost or twice, or a process does not end with exit code 0.
"""

from __future__ import annotations

import base64
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from load_tests.beats import ASSIGNED, ENDING, REVOKED
from load_tests.harness import KAFKA_SCRIPT, REQUEST_S, LoadTestError, exit_with, fresh_names, kafka_broker, produce
from load_tests.process import streamer_run
from load_tests.reading import Balance, balance, dead_letter_id, positions, read_all
from load_tests.steadiness import StagePauses, by_stage, longest_by_stage, watch
from streamer.bench.texts import bench_texts

SLOW_MODEL, SLOW_BROKER = "slow_model", "slow_broker"
CASES, PROMISES = (SLOW_MODEL, SLOW_BROKER), ("at_least_once", "exactly_once")
PARTITIONS = 12
TEXTS = 1000
SESSION_MS, POLL_MS = 6000, 15_000
DRAIN_S = 10.0  # less than a poll may last: while it drains, the loop does not poll
SERVICE_MS = 20.0
SLOW_MODEL_S, SLOW_BROKER_S, READY_S = 90.0, 60.0, 60.0
ALLOWED_PAUSE_S = 0.060
NOT_JUDGED = frozenset({"start", ASSIGNED, REVOKED, ENDING})
LONGEST_SHOWN = 5

# what the settings below bound, each as by default
FETCH_MB, SEND_MB, WINDOW_MB, UNCOMMITTED = 64, 64, 4, 10_000
HELD_WINDOWS = 5  # two under way, two gathered, one being read
SLACK_MB = 100  # what the client, the allocator and objects take beside the bytes counted


@dataclass(frozen=True, slots=True)
class Load:
    """What waits, how much of it a slow broker takes, and how long it may take when the broker is quick again."""

    records: int
    value_bytes: int
    broker_bytes_per_s: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case came to. `rss_mb_bound` is what the settings allow."""

    case: str
    delivery: str
    seconds: float
    ended_slowly: int  # records, while the model or the broker was slow
    ended: int
    rss_mb_start: float
    rss_mb_peak: float
    rss_mb_bound: float
    rebalances: dict[str, int]  # after the start
    rewinds: int
    pauses: tuple[StagePauses, ...]
    longest: list[dict[str, Any]]
    metric_max_ms: dict[str, float]  # of streamer_loop_longest_pause_seconds
    counted: Balance
    exit_code: int

    def too_long(self) -> list[str]:
        """Stages in which the loop itself stood still for too long."""
        judged = (one for one in self.pauses if one.stage not in NOT_JUDGED)
        return [one.stage for one in judged if one.own_max_ms > ALLOWED_PAUSE_S * 1000]

    def failures(self) -> list[str]:
        """What is not as it should be."""
        whole = self.case == SLOW_MODEL or not self.counted.lost
        checks = {
            "memory": self.rss_mb_peak <= self.rss_mb_bound,
            "membership": not any(self.rebalances.values()),
            "pauses": not self.too_long(),
            "records": whole and self.counted.duplicates == self.counted.unknown == self.counted.dead_letters == 0,
            "exit code": self.exit_code == 0,
        }
        return [name for name, good in checks.items() if not good]


def main(
    case: Annotated[list[str] | None, typer.Option(help="slow_model or slow_broker; both without it.")] = None,
    delivery: Annotated[list[str] | None, typer.Option(help="One promise only.")] = None,
    broker_bytes_per_s: Annotated[int, typer.Option(min=1, help="What the slow broker takes.")] = 1_000_000,
    records: Annotated[int, typer.Option(min=1000, help="How many wait.")] = 50_000,
    value_bytes: Annotated[int, typer.Option(min=1000, help="Of each.")] = 10_000,
    timeout_s: Annotated[float, typer.Option(min=1, help="For what is left when the broker is quick again.")] = 300.0,
) -> None:
    """Look at a process that cannot keep up."""

    def test() -> bool:
        for given, known in ((case, CASES), (delivery, PROMISES)):
            for one in set(given or ()) - set(known):
                raise LoadTestError(f"'{one}' is not one of {', '.join(known)}")
        chosen = [(one, promise) for one in case or CASES for promise in delivery or PROMISES]
        return run_cases(Console(stderr=True), chosen, Load(records, value_bytes, broker_bytes_per_s, timeout_s))

    exit_with(test)


def run_cases(console: Console, cases: Sequence[tuple[str, str]], load: Load) -> bool:
    """True when all went well; prints tables, and a line of figures for each case."""
    passed = True
    with kafka_broker() as servers, fresh_names(servers, partitions=PARTITIONS, topics=("in",)) as names:
        produce(servers, names["in"], large_records(load.records, load.value_bytes))
        ids = positions(servers, names["in"])
        console.print(f"{load.records:,} records of {load.value_bytes:,} bytes wait in {names['in']} at {servers}")
        for case, delivery in cases:
            try:
                outcome = run_case(servers, names["in"], ids, case, delivery, load)
            except LoadTestError as error:  # the other cases still tell something
                console.print(f"{case}, {delivery}: {error}", markup=False, highlight=False)
                passed = False
                continue
            show(console, outcome)
            print(orjson.dumps({**asdict(outcome), "failures": outcome.failures()}).decode(), flush=True)
            passed = passed and not outcome.failures()
    return passed


def large_records(count: int, value_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of each record: a short text, and an attachment that no codec makes smaller."""
    chance = random.Random(1)
    fill = [base64.b64encode(chance.randbytes(value_bytes)) for _ in range(TEXTS)]
    texts = bench_texts(TEXTS, seed=1)
    for i in range(count):
        head = orjson.dumps({"id": i, "text": texts[i % TEXTS], "attachment": ""})[:-2]
        yield str(i).encode(), head + fill[i % TEXTS][: max(0, value_bytes - len(head) - 2)] + b'"}'


def settings(servers: str, topic: str, names: Mapping[str, str], case: str, delivery: str) -> dict[str, Any]:
    """Settings of the process: what is not said here is as in production."""
    properties = {"client.id": names["group"], "session.timeout.ms": SESSION_MS, "max.poll.interval.ms": POLL_MS}
    stream = {"topic": topic, "output": names["out"], "dead_letter": names["dead"], "label_set": "small"}
    return {
        "kafka": {"bootstrap_servers": servers, "group_id": names["group"], "properties": properties},
        "delivery": delivery,
        "limits": {"drain_timeout_s": DRAIN_S},
        "model": {"name": "fake", "service_time_ms": SERVICE_MS if case == SLOW_MODEL else 0.0},
        "label_sets": {"small": {"facets": {"sentiment": {"labels": ["negative", "neutral", "positive"]}}}},
        "streams": [{**stream, "pass_payload": case == SLOW_BROKER}],
    }


def bound_mb(case: str, start_mb: float, value_bytes: int) -> float:
    """The most memory that the settings allow: what is fetched ahead, windows in hand, records not yet committed, each
    with its event, and a send queue."""
    event_bytes = value_bytes if case == SLOW_BROKER else 1000
    uncommitted_mb = UNCOMMITTED * (value_bytes + event_bytes) / 2**20
    return start_mb + FETCH_MB + HELD_WINDOWS * WINDOW_MB + uncommitted_mb + SEND_MB + SLACK_MB


def run_case(servers: str, topic: str, ids: set[str], case: str, delivery: str, load: Load) -> Outcome:
    """One process, looked at while it cannot keep up, and until it has ended."""
    with ExitStack() as stack:
        names = stack.enter_context(fresh_names(servers, partitions=PARTITIONS, topics=("out", "dead")))
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "pauses.json"
        lift = None
        if case == SLOW_BROKER:
            lift = stack.enter_context(quota(servers, names["group"], load.broker_bytes_per_s))
        config = settings(servers, topic, names, case, delivery)
        with streamer_run(config, program=("load_tests.beats", str(file))) as process:
            process.wait_ready(READY_S)
            samples = watch(process, len(ids), SLOW_MODEL_S if lift is None else SLOW_BROKER_S)
            ended_slowly = samples[-1].ended
            if lift is not None:
                lift()
                samples += watch(process, len(ids), load.timeout_s, began_s=samples[-1].at_s)
            exit_code = process.terminate()
        outputs = (orjson.loads(message.value() or b"")["id"] for message in read_all(servers, names["out"]))
        dead = map(dead_letter_id, read_all(servers, names["dead"]))
        counted = balance(ids, outputs, dead)
        found = orjson.loads(file.read_bytes())
    start_mb = samples[0].rss_mb
    return Outcome(
        case=case,
        delivery=delivery,
        seconds=round(samples[-1].at_s, 1),
        ended_slowly=ended_slowly,
        ended=samples[-1].ended,
        rss_mb_start=round(start_mb, 1),
        rss_mb_peak=round(max(one.rss_mb for one in samples), 1),
        rss_mb_bound=round(bound_mb(case, start_mb, load.value_bytes), 1),
        rebalances={event: count - samples[0].rebalances[event] for event, count in samples[-1].rebalances.items()},
        rewinds=samples[-1].rewinds,
        pauses=by_stage(found["pauses"]),
        longest=[one for one in found["longest"] if one["stage"] not in NOT_JUDGED][:LONGEST_SHOWN],
        metric_max_ms=longest_by_stage(samples),
        counted=counted,
        exit_code=exit_code,
    )


@contextmanager
def quota(servers: str, client_id: str, bytes_per_s: int) -> Iterator[Callable[[], None]]:
    """The broker takes so many bytes a second from this client, until the function given is called or the context
    ends."""
    key = "producer_byte_rate"
    _configure(servers, client_id, "--add-config", f"{key}={bytes_per_s}")
    with ExitStack() as stack:
        stack.callback(_configure, servers, client_id, "--delete-config", key)
        yield stack.close


def _configure(servers: str, client_id: str, *change: str) -> None:
    """Kafka's own tool: the client library knows no quotas."""
    jars = KAFKA_SCRIPT.parents[2] / ".kafka" / "lib"
    if not jars.is_dir():
        raise LoadTestError(f"{jars} is missing: run deploy/kafka/kafka.sh up once, for the tool that sets a quota")
    tool = ["java", "-cp", f"{jars}/*", "kafka.admin.ConfigCommand", "--bootstrap-server", servers, "--alter"]
    whose = ["--entity-type", "clients", "--entity-name", client_id]
    done = subprocess.run([*tool, *whose, *change], capture_output=True, text=True, check=False, timeout=2 * REQUEST_S)
    if done.returncode != 0:
        raise LoadTestError(f"no quota: {done.stdout.strip()} {done.stderr.strip()}")


def show(console: Console, outcome: Outcome) -> None:
    """The pauses of a case, and what is wrong with it."""
    table = Table(title=f"{outcome.case}, {outcome.delivery}: pauses of the loop, ms", title_justify="left")
    for name in ("before", "count", "p99", "longest", "p99, own", "longest, own"):
        table.add_column(name, justify="left" if name == "before" else "right")
    for one in outcome.pauses:
        figures = (one.p99_ms, one.max_ms, one.own_p99_ms, one.own_max_ms)
        table.add_row(one.stage, f"{one.count:,}", *(f"{value:,.1f}" for value in figures))
    console.print(table)
    console.print(
        f"{outcome.ended:,} records in {outcome.seconds:.0f} s, {outcome.ended_slowly:,} of them slowly; memory "
        f"{outcome.rss_mb_start:.0f} to {outcome.rss_mb_peak:.0f} MB (bound {outcome.rss_mb_bound:.0f}); rebalances "
        f"{outcome.rebalances}; rewinds {outcome.rewinds}; wrong: {', '.join(outcome.failures()) or 'nothing'}",
        markup=False,
        highlight=False,
    )


if __name__ == "__main__":
    typer.run(main)
