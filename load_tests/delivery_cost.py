"""What exactly_once costs against at_least_once, through a real `streamer run` on Apache Kafka.

    python -m load_tests.delivery_cost [--model fake] [--records 100000] [--runs 4]
    python -m load_tests.delivery_cost --model bundled

Both promises label the same records, in turns (A B B A A B ...), each run by a process and a group of its own, into
topics of its own. The model `fake` takes no time, so that all the work is the road's; `bundled` is the shipped model on
texts of 20 to 80 tokens and 24 labels in 3 facets. All figures are the process's own, by its metrics: from the last
scrape before it read a record to the one that shows the last record ended, which under exactly_once means committed.

Other work on the machine moves the wall clock by far more than the cost, so the cost is told by what it hardly moves:
with `fake`, by the CPU time of a record; with a model, whose work is the same under either promise and nearly all there
is, by the share of time in which it works, which falls when it has to wait for the road. Exit code 1 when a record is
lost or there twice, a process does not end with exit code 0, or the bundled model's cost exceeds 5 %.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from statistics import median
from typing import Annotated, Any, Literal, TypeAlias

import orjson
import typer
from prometheus_client.samples import Sample as Series
from rich.console import Console
from rich.table import Table

from load_tests.harness import LoadTestError, exit_with, fresh_names, kafka_broker, produce
from load_tests.process import StreamerRun, streamer_run
from load_tests.reading import Balance, balance, dead_letter_id, positions, read_all
from streamer.bench.texts import bench_labels, bench_texts
from streamer.terminal import progress_bar

Promise: TypeAlias = Literal["at_least_once", "exactly_once"]

FAKE = "fake"
PARTITIONS = 12
READY_S = 300.0
FIRST_SCRAPE_S, SCRAPE_S = 0.01, 0.1
RECORDS = {FAKE: 100_000, "bundled": 2_500}
RUNS = {FAKE: 4, "bundled": 2}
GOAL = 0.05


@dataclass(frozen=True, slots=True)
class Reading:
    """What a process says at one moment; times in seconds, `engine_s` is what the model worked."""

    at_s: float
    cpu_s: float
    engine_s: float
    consumed: int
    ended: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `engine_busy` is the share of `wall_s` in which the model worked."""

    delivery: Promise
    wall_s: float
    records_per_s: float
    cpu_ms_per_record: float
    engine_busy: float
    exit_code: int
    counted: Balance

    @property
    def once(self) -> bool:
        """Whether every record is there, none twice."""
        whole = self.counted.outputs == self.counted.records and not self.counted.dead_letters
        return whole and self.counted.lost == self.counted.duplicates == self.counted.unknown == 0


def main(
    model: Annotated[str, typer.Option(help="fake (no work) or bundled.")] = FAKE,
    records: Annotated[int | None, typer.Option(min=100, help="In each run; 100,000 and 2,500.")] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Of each promise; 4 and 2.")] = None,
    timeout_s: Annotated[float, typer.Option(min=1, help="For one run.")] = 900.0,
) -> None:
    """Compare the two promises."""

    def test() -> bool:
        if model not in RECORDS:
            raise LoadTestError(f"--model '{model}': it is one of {', '.join(RECORDS)}")
        return compare(Console(stderr=True), model, records or RECORDS[model], runs or RUNS[model], timeout_s)

    exit_with(test)


def compare(console: Console, model: str, records: int, runs: int, timeout_s: float) -> bool:
    """True when all went well; prints a table, and the figures as the last line."""
    done: list[Run] = []
    with kafka_broker() as servers, fresh_names(servers, partitions=PARTITIONS, topics=("in",)) as names:
        produce(servers, names["in"], texts(records))
        ids = positions(servers, names["in"])
        console.print(f"{records:,} records wait in {names['in']} at {servers}")
        for promise in turns(runs):
            done.append(one_run(console, servers, names["in"], ids, promise, model, timeout_s))
            print(orjson.dumps(asdict(done[-1])).decode(), flush=True)
    show_runs(console, done)
    found = figures(done, works=model != FAKE)
    print(orjson.dumps({"model": model, **found}).decode(), flush=True)
    return bool(found["once"]) and found["exit_codes"] == [0] and (model == FAKE or found["cost"] <= GOAL)


def texts(count: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of each record."""
    for i, text in zip(range(count), cycle(bench_texts(1000, seed=1)), strict=False):
        yield str(i).encode(), orjson.dumps({"id": i, "text": text})


def turns(runs: int) -> list[Promise]:
    """So many of each, A B B A A B ..: whatever drifts meanwhile meets both alike."""
    order: list[Promise] = []
    for i in range(runs):
        order += ["at_least_once", "exactly_once"] if i % 2 == 0 else ["exactly_once", "at_least_once"]
    return order


def one_run(
    console: Console, servers: str, topic: str, ids: set[str], promise: Promise, model: str, timeout_s: float
) -> Run:
    """Label the whole topic once."""
    with fresh_names(servers, partitions=PARTITIONS, topics=("out", "dead")) as names:
        with streamer_run(settings(servers, topic, names, promise, model)) as process:
            process.wait_alive(READY_S)
            began, ended = watch(console, process, promise, len(ids), timeout_s)
            exit_code = process.terminate()
        outputs = (orjson.loads(message.value() or b"")["id"] for message in read_all(servers, names["out"]))
        dead = map(dead_letter_id, read_all(servers, names["dead"]))
        counted = balance(ids, outputs, dead)
    wall_s = ended.at_s - began.at_s
    return Run(
        delivery=promise,
        wall_s=round(wall_s, 2),
        records_per_s=round(ended.ended / wall_s, 1),
        cpu_ms_per_record=round((ended.cpu_s - began.cpu_s) * 1000 / ended.ended, 4),
        engine_busy=round((ended.engine_s - began.engine_s) / wall_s, 4),
        exit_code=exit_code,
        counted=counted,
    )


def settings(servers: str, topic: str, names: dict[str, str], promise: Promise, model: str) -> dict[str, Any]:
    """Settings of a process: what is not said here is as in production."""
    facets = {
        facet.name: {"kind": str(facet.kind), "labels": [label.name for label in facet.labels]}
        for facet in bench_labels().facets
    }
    return {
        "kafka": {"bootstrap_servers": servers, "group_id": names["group"]},
        "delivery": promise,
        "model": {"name": model, "cache_memory_mb": 0},  # texts repeat, and the model is to work on each
        "label_sets": {"bench": {"facets": facets}},
        "streams": [{"topic": topic, "output": names["out"], "dead_letter": names["dead"], "label_set": "bench"}],
    }


def watch(
    console: Console, process: StreamerRun, title: str, records: int, timeout_s: float
) -> tuple[Reading, Reading]:
    """The last reading before the first record was read, and the first one after the last record ended."""
    began = reading(process.series(), time.monotonic())
    if began.consumed:
        raise LoadTestError("the process had read records before it was first looked at")
    deadline_s = time.monotonic() + READY_S + timeout_s
    now = began
    with progress_bar(console, title, records) as advance:
        while now.ended < records:
            time.sleep(SCRAPE_S if now.consumed else FIRST_SCRAPE_S)
            if time.monotonic() > deadline_s:
                raise LoadTestError(f"{title}: only {now.ended:,} of {records:,} records had ended in time")
            at_s = time.monotonic()
            before, now = now, reading(process.series(), at_s)
            advance(now.ended - before.ended)
            began = began if now.consumed else now
    return began, now


def reading(scrape: Sequence[Series], at_s: float) -> Reading:
    """What a scrape says."""

    def total(name: str, *stages: str) -> float:
        chosen = (one for one in scrape if one.name == name and (not stages or one.labels["stage"] in stages))
        return sum(one.value for one in chosen)

    return Reading(
        at_s=at_s,
        cpu_s=total("process_cpu_seconds_total"),
        engine_s=total("streamer_stage_seconds_total", "tokenise", "forward"),
        consumed=int(total("streamer_records_consumed_total")),
        ended=int(total("streamer_records_published_total") + total("streamer_records_dead_lettered_total")),
    )


def figures(runs: Sequence[Run], *, works: bool) -> dict[str, Any]:
    """What the last line says: medians by promise, and what exactly_once loses, as shares of at_least_once.

    `works`: whether the model has work to do, so that its share of the time is what counts."""
    sides = {promise: [run for run in runs if run.delivery == promise] for promise in ("at_least_once", "exactly_once")}
    medians = {
        promise: {
            name: median(getattr(run, name) for run in side)
            for name in ("records_per_s", "cpu_ms_per_record", "engine_busy")
        }
        for promise, side in sides.items()
    }
    plain, exact = medians["at_least_once"], medians["exactly_once"]
    cpu_cost = exact["cpu_ms_per_record"] / plain["cpu_ms_per_record"] - 1
    busy_cost = 1 - exact["engine_busy"] / plain["engine_busy"]
    return {
        **medians,
        "runs": len(runs),
        "wall_cost": round(1 - exact["records_per_s"] / plain["records_per_s"], 4),
        "cpu_cost": round(cpu_cost, 4),
        "engine_busy_cost": round(busy_cost, 4),
        "cost": round(busy_cost if works else cpu_cost, 4),
        "once": all(run.once for run in runs),
        "exit_codes": sorted({run.exit_code for run in runs}),
    }


def show_runs(console: Console, runs: Sequence[Run]) -> None:
    """A line for each run, in the order they were made."""
    table = Table(title="exactly_once against at_least_once", title_justify="left")
    for name in ("delivery", "seconds", "records/s", "CPU, ms/record", "engine busy", "lost", "twice"):
        table.add_column(name, justify="left" if name == "delivery" else "right", no_wrap=name == "delivery")
    for run in runs:
        table.add_row(
            run.delivery,
            f"{run.wall_s:.1f}",
            f"{run.records_per_s:,.0f}",
            f"{run.cpu_ms_per_record:.4f}",
            f"{run.engine_busy:.1%}",
            f"{run.counted.lost:,}",
            f"{run.counted.duplicates:,}",
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
