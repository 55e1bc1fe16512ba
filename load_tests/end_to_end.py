"""A topic through a real `streamer run` on Apache Kafka, beside the engine alone on the same texts.

    python -m load_tests.end_to_end [--records 2500] [--runs 2] [--price-per-hour 0.12]
    python -m load_tests.end_to_end --records 200000 --runs 1     # memory over a long run: half an hour on two cores

Texts of 20 to 80 tokens, no two alike, under 4 + 12 + 8 labels in 3 facets wait in a topic. The sides take turns
(engine, road, road, engine, ...) on the same machine, broker included: `engine` goes from texts to scores in this
process, with windows as large and as many under way as on the road; `road` is a process of its own, from its topic to
its output topic, at_least_once. Either rate runs from the first window that is done to the last one, so that starting
up is left out of both; the road's is told by `classified_at_ms` of its events.

The cost of a million records is the machine's hours at the road's rate, times --price-per-hour; the hours of CPU that
the process itself took are told beside it. Exit code 1 when the road is slower than GOAL of the engine, a record is
lost or there twice, memory grows once it has settled (in a run that is long enough to tell), or a process does not end
with exit code 0. Other work on the machine falls on both sides, but not evenly; `cpu_ratio`, which compares CPU time,
is hardly moved by it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Annotated, Any, Literal, TypeAlias

import orjson
import typer
from rich.console import Console
from rich.table import Table

from load_tests.backlog import show_samples
from load_tests.delivery_cost import settings
from load_tests.harness import exit_with, fresh_names, kafka_broker, produce
from load_tests.labelled_input import steady_rate
from load_tests.process import Sample, StreamerRun, streamer_run
from load_tests.reading import Balance, balance, dead_letter_id, positions, read_all
from streamer.app import ACCELERATOR_WINDOW_RECORDS, CPU_WINDOW_RECORDS, build_classifier
from streamer.bench.texts import bench_labels, bench_texts
from streamer.engine.base import Classifier, Pending
from streamer.pipeline import WINDOWS_UNDER_WAY
from streamer.records import Document
from streamer.settings import ModelSettings

Side: TypeAlias = Literal["engine", "road"]

BUNDLED = "bundled"
PARTITIONS = 6
READY_S = 300.0
WAIT_S = 1.0
GOAL = 0.85
ENGINE_RECORDS = 2_500  # as many tell the engine's rate, however many the road is given
SETTLED_SHARE, SETTLED_RECORDS = 0.25, 5_000  # until then caches and the allocator's reserves fill
GROWTH_MB = 50.0
HOUR_S, MILLION = 3600.0, 1_000_000


@dataclass(frozen=True, slots=True)
class EngineRun:
    """Texts to scores, in this process."""

    records: int
    records_per_s: float
    cpu_ms_per_record: float


@dataclass(frozen=True, slots=True)
class RoadRun:
    """A topic through `streamer run`. CPU is the process's own; `growth_mb` counts from when a quarter was labelled,
    SETTLED_RECORDS at least; None where there were no more."""

    records: int
    records_per_s: float
    cpu_ms_per_record: float
    rss_mb_ready: float
    rss_mb_peak: float
    growth_mb: float | None
    exit_code: int
    counted: Balance


def main(
    records: Annotated[int, typer.Option(min=100, help="In the topic.")] = 2_500,
    runs: Annotated[int, typer.Option(min=1, help="Of each side.")] = 2,
    model: Annotated[str, typer.Option(help="bundled, a directory, or a Hugging Face id.")] = BUNDLED,
    price_per_hour: Annotated[float | None, typer.Option(min=0.0, help="Of this machine, in any currency.")] = None,
    timeout_s: Annotated[float, typer.Option(min=1, help="For one run of the road.")] = 7200.0,
) -> None:
    """Compare the road with its engine."""
    exit_with(lambda: run_end_to_end(Console(stderr=True), model, records, runs, price_per_hour, timeout_s))


def run_end_to_end(
    console: Console, model: str, records: int, runs: int, price_per_hour: float | None, timeout_s: float
) -> bool:
    """True when all went well; prints a table, a line of figures for each run, and the whole as the last line."""
    texts = distinct_texts(records)
    engines: list[EngineRun] = []
    roads: list[RoadRun] = []
    with (
        kafka_broker() as servers,
        fresh_names(servers, partitions=PARTITIONS, topics=("in",)) as names,
        warm_engine(model) as classifier,
    ):
        values = ((str(i).encode(), orjson.dumps({"id": i, "text": text})) for i, text in enumerate(texts))
        produce(servers, names["in"], values)
        ids = positions(servers, names["in"])
        console.print(f"{records:,} records wait in {names['in']} at {servers}")
        for side in turns(runs):
            if side == "engine":
                engines.append(run_engine(classifier, texts[:ENGINE_RECORDS]))
                told: EngineRun | RoadRun = engines[-1]
            else:
                roads.append(run_road(console, servers, names["in"], ids, model, timeout_s))
                told = roads[-1]
            print(orjson.dumps({"side": side, **asdict(told)}).decode(), flush=True)
    found = figures(engines, roads, price_per_hour)
    show(console, engines, roads)
    print(orjson.dumps({"model": model, **found}).decode(), flush=True)
    return not found["failures"]


def distinct_texts(count: int) -> list[str]:
    """No two alike, so that nobody's memory of earlier texts is measured."""
    found: dict[str, None] = {}
    seed = 1
    while len(found) < count:
        found |= dict.fromkeys(bench_texts(count - len(found), seed=seed))
        seed += 1
    return list(found)


def turns(runs: int) -> list[Side]:
    """So many of each, A B B A A B ...: whatever drifts meanwhile meets both alike."""
    order: list[Side] = []
    for i in range(runs):
        order += ["engine", "road"] if i % 2 == 0 else ["road", "engine"]
    return order


@contextmanager
def warm_engine(model: str) -> Iterator[Classifier]:
    """The engine of this process, without a cache of scores; it rests while the road has its turn."""
    classifier = build_classifier(ModelSettings(name=model), max_tokens="auto")
    try:
        classifier.warm_up([bench_labels()])
        yield classifier
    finally:
        classifier.close()


def run_engine(classifier: Classifier, texts: Sequence[str]) -> EngineRun:
    """Score all texts; every window leaves the moment it was done, once for each of its records."""
    labels = bench_labels()
    documents = [Document(text, labels) for text in texts]
    size = CPU_WINDOW_RECORDS if classifier.describe().device == "cpu" else ACCELERATOR_WINDOW_RECORDS
    under_way: deque[tuple[Pending, int]] = deque()
    stamps_ms: list[int] = []
    cpu_began_s = time.process_time()
    for first in range(0, len(documents), size):
        if len(under_way) == WINDOWS_UNDER_WAY:
            stamps_ms += _finish(*under_way.popleft())
        window = documents[first : first + size]
        under_way.append((classifier.submit(window), len(window)))
    for pending, count in under_way:
        stamps_ms += _finish(pending, count)
    cpu_s = time.process_time() - cpu_began_s
    return EngineRun(len(texts), round(steady_rate(stamps_ms), 2), round(cpu_s * 1000 / len(texts), 4))


def _finish(pending: Pending, count: int) -> list[int]:
    while pending.wait(WAIT_S) is None:
        pass
    return [time.time_ns() // 1_000_000] * count


def run_road(console: Console, servers: str, topic: str, ids: set[str], model: str, timeout_s: float) -> RoadRun:
    """Label the whole topic once, by a process and a group of its own."""
    with fresh_names(servers, partitions=PARTITIONS, topics=("out", "dead")) as names:
        with streamer_run(settings(servers, topic, names, "at_least_once", model)) as process:
            process.wait_ready(READY_S)
            samples, cpu_s, records = watch(console, process, len(ids), timeout_s)
            exit_code = process.terminate()
        events = [orjson.loads(message.value() or b"") for message in read_all(servers, names["out"])]
        dead = map(dead_letter_id, read_all(servers, names["dead"]))
        counted = balance(ids, (event["id"] for event in events), dead)
    show_samples(console, samples)
    return RoadRun(
        records=len(ids),
        records_per_s=round(steady_rate(sorted(event["classified_at_ms"] for event in events)), 2),
        cpu_ms_per_record=round(cpu_s * 1000 / records, 4),
        rss_mb_ready=round(samples[0].rss_mb, 1),
        rss_mb_peak=round(max(one.rss_mb for one in samples), 1),
        growth_mb=growth(samples, len(ids)),
        exit_code=exit_code,
        counted=counted,
    )


def watch(console: Console, process: StreamerRun, records: int, timeout_s: float) -> tuple[list[Sample], float, int]:
    """Samples until all records have ended; CPU seconds, and for how many records, since it was first looked at."""
    began, cpu_began_s = process.metrics(), process.cpu_s()
    samples = process.until_ended(records, timeout_s, console)
    done = began["streamer_records_published_total"] + began["streamer_records_dead_lettered_total"]
    return samples, process.cpu_s() - cpu_began_s, max(1, records - int(done))


def growth(samples: Sequence[Sample], records: int) -> float | None:
    """Megabytes from when it had settled to the highest after that; None where it never did."""
    if records <= SETTLED_RECORDS:
        return None
    settled = [one.rss_mb for one in samples if one.ended >= max(SETTLED_SHARE * records, SETTLED_RECORDS)]
    return round(max(settled) - settled[0], 1)


def figures(engines: Sequence[EngineRun], roads: Sequence[RoadRun], price_per_hour: float | None) -> dict[str, Any]:
    """What the last line says: medians of each side, their ratio, the cost of a million records, and what failed."""
    engine_rate = median(one.records_per_s for one in engines)
    road_rate = median(one.records_per_s for one in roads)
    cpu_ms = median(one.cpu_ms_per_record for one in roads)
    machine_hours = MILLION / road_rate / HOUR_S
    once = all(
        one.counted.outputs == one.counted.records
        and one.counted.lost == one.counted.duplicates == one.counted.unknown == one.counted.dead_letters == 0
        for one in roads
    )
    ratio = road_rate / engine_rate
    engine_cpu_ms = median(one.cpu_ms_per_record for one in engines)
    growth_mb = max((one.growth_mb for one in roads if one.growth_mb is not None), default=None)
    checks = {
        "ratio": ratio >= GOAL,
        "records": once,
        "memory": growth_mb is None or growth_mb <= GROWTH_MB,
        "exit code": all(one.exit_code == 0 for one in roads),
    }
    return {
        "records": roads[0].records,
        "runs": len(roads),
        "engine_records_per_s": engine_rate,
        "road_records_per_s": road_rate,
        "ratio": round(ratio, 4),
        "engine_cpu_ms_per_record": engine_cpu_ms,
        "road_cpu_ms_per_record": cpu_ms,
        "cpu_ratio": round(engine_cpu_ms / cpu_ms, 4),
        "growth_mb": growth_mb,
        "machine_hours_per_million": round(machine_hours, 4),
        "core_hours_per_million": round(cpu_ms / 1000 * MILLION / HOUR_S, 4),
        "cost_per_million": None if price_per_hour is None else round(machine_hours * price_per_hour, 4),
        "failures": [name for name, good in checks.items() if not good],
    }


def show(console: Console, engines: Sequence[EngineRun], roads: Sequence[RoadRun]) -> None:
    """A line for each run, the sides one after the other."""
    table = Table(title="the engine alone, and end to end through Apache Kafka", title_justify="left")
    for name in ("side", "records", "records/s", "CPU, ms/record", "memory: ready, peak, growth (MB)", "lost", "twice"):
        table.add_column(name, justify="left" if name == "side" else "right")
    for engine in engines:
        rate, cpu = f"{engine.records_per_s:,.1f}", f"{engine.cpu_ms_per_record:.3f}"
        table.add_row("engine", f"{engine.records:,}", rate, cpu, "", "", "")
    for road in roads:
        rate, cpu = f"{road.records_per_s:,.1f}", f"{road.cpu_ms_per_record:.3f}"
        grown = "-" if road.growth_mb is None else f"{road.growth_mb:,.1f}"
        memory = f"{road.rss_mb_ready:,.0f}, {road.rss_mb_peak:,.0f}, {grown}"
        counts = (f"{road.counted.lost:,}", f"{road.counted.duplicates:,}")
        table.add_row("road", f"{road.records:,}", rate, cpu, memory, *counts)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
