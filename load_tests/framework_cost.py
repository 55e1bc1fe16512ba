"""What the road itself costs: CPU time of a record from the first poll to the last commit, with an engine without work.

    python -m load_tests.framework_cost [--records 200000] [--rounds 5]

Everything is as `streamer run` has it, metrics included, but for the model: `fake`, service time 0. Records of about
300 bytes with a key, 24 labels in 3 facets, events as JSON. Each round is a process of its own, and the kinds take
turns: at_least_once and exactly_once on Apache Kafka, with a topic filled beforehand, and at_least_once in plain memory
(without HTTP), which leaves out the Kafka client and its threads.

CPU time, not wall clock: other work on the machine moves it far less. It is told by thread. `loop` is our own road, all
of it on one thread; `engine` is the no-op engine; `client` is the rest, which on Kafka is librdkafka: sockets, lz4,
checksums. `process` is their sum, `framework` all of it but the engine. Exit code 1 when `framework` takes more than
GOAL_US under at_least_once on Kafka, or a record did not end in an event.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import cycle
from multiprocessing import get_context
from statistics import median
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from load_tests.harness import LoadTestError, exit_with, fresh_names, kafka_broker, produce
from load_tests.process import free_port
from streamer.app import Connection, build_classifier, build_pipeline, window_records
from streamer.bench.texts import bench_labels, bench_texts
from streamer.delivery import AtLeastOnce
from streamer.memory import settle_memory
from streamer.observe import Observer, Observers
from streamer.records import Partition
from streamer.serving import serve
from streamer.settings import build_settings
from streamer.telemetry.bundle import Telemetry
from streamer.telemetry.logs import configure_logs
from streamer.transport.memory import MemoryBroker, MemorySink, MemorySource

GOAL_US = 20.0
PARTITIONS = 6
VALUE_BYTES = 300
TEXT_CHARACTERS = 200
MEMORY = "memory"
KINDS = ("at_least_once", "exactly_once", MEMORY)
THREADS = ("framework", "loop", "client", "engine", "process")
ROUND_S = 300.0


@dataclass(frozen=True, slots=True)
class Cost:
    """One round, in microseconds of CPU a record: by thread, and the loop's by what it was about to do (`poll` holds
    decoding, `send` deciding and encoding, `commit` serving acknowledgements). `outputs` are records that ended in an
    event."""

    kind: str
    outputs: int
    records_per_s: float
    by_thread_us: Mapping[str, float]
    by_stage_us: Mapping[str, float]


class Meter(Observer):
    """Reads the CPU clocks when partitions are assigned, and when a commit is answered after the last of `records`
    records has ended; then it sets `stop`. All on the loop's thread, whose own clock is thereby the loop's."""

    def __init__(self, *, kind: str, records: int, stop: threading.Event) -> None:
        self._kind = kind
        self._records = self._left = records
        self._stop = stop
        self._outputs = 0
        self._stage, self._stage_began_s = "start", 0.0
        self._stage_s: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self.cost: Cost | None = None

    def assigned(self, partitions: Collection[Partition]) -> None:
        if partitions and not self._began:
            self._began = _clocks()
            self._stage_began_s = self._began["loop"]

    def beat(self, stage: str) -> None:
        now_s = time.thread_time()
        if self._began:
            self._stage_s[self._stage] = self._stage_s.get(self._stage, 0.0) + now_s - self._stage_began_s
        self._stage, self._stage_began_s = stage, now_s

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self._outputs += len(latencies_s)
        self._ended(len(latencies_s))

    def dead_lettered(self, topic: str, records: int) -> None:
        self._ended(records)

    def committed(self, partitions: int, seconds: float) -> None:
        self._end_if_due()

    def _ended(self, records: int) -> None:
        self._left -= records
        if self._kind == "exactly_once":  # tells what a transaction held after its commit
            self._end_if_due()

    def _end_if_due(self) -> None:
        if self._left > 0 or self.cost is not None:
            return
        self.beat("end")
        spent = {name: seconds - self._began.get(name, 0.0) for name, seconds in _clocks().items()}
        spent["framework"] = spent["process"] - spent["engine"]
        spent["client"] = spent["framework"] - spent["loop"]
        self.cost = Cost(
            kind=self._kind,
            outputs=self._outputs,
            records_per_s=round(self._records / spent["wall"], 1),
            by_thread_us={name: self._us(spent[name]) for name in THREADS},
            by_stage_us={name: self._us(seconds) for name, seconds in sorted(self._stage_s.items())},
        )
        self._stop.set()

    def _us(self, seconds: float) -> float:
        return round(seconds / self._records * 1e6, 2)


def _clocks() -> dict[str, float]:
    """Seconds of CPU of the process, of the calling thread and of the engine's threads; and of the wall."""
    engine = [one.ident for one in threading.enumerate() if one.name.startswith("engine")]
    return {
        "process": time.process_time(),
        "loop": time.thread_time(),
        "engine": sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in engine if ident is not None),
        "wall": time.monotonic(),
    }


def main(
    records: Annotated[int, typer.Option(min=1000, help="In each round.")] = 200_000,
    rounds: Annotated[int, typer.Option(min=1, help="Of each kind.")] = 5,
) -> None:
    """Measure what a record costs besides its model."""
    exit_with(lambda: run_framework_cost(Console(stderr=True), records, rounds))


def run_framework_cost(console: Console, records: int, rounds: int) -> bool:
    """True when the goal is met and all records became events; prints a table, and the figures as the last line."""
    done: list[Cost] = []
    with kafka_broker() as servers, fresh_names(servers, partitions=PARTITIONS, topics=("in",)) as names:
        produce(servers, names["in"], keyed_records(records))
        for _ in range(rounds):
            for kind in KINDS:
                done.append(one_round(servers, names["in"], kind, records))
                print(orjson.dumps(asdict(done[-1])).decode(), flush=True)
    found = {kind: medians([cost for cost in done if cost.kind == kind]) for kind in KINDS}
    show(console, found)
    goal_met = found["at_least_once"]["framework"] <= GOAL_US
    whole = all(cost.outputs == records for cost in done)
    print(orjson.dumps({"us_per_record": found, "goal_us": GOAL_US, "goal_met": goal_met, "whole": whole}).decode())
    return goal_met and whole


def keyed_records(count: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of each record: a text, and fields that are not looked at up to VALUE_BYTES."""
    for i, text in zip(range(count), cycle(bench_texts(1000, seed=1)), strict=False):
        value = orjson.dumps({"id": i, "created_at": "2026-01-01", "text": text[:TEXT_CHARACTERS], "note": ""})
        yield str(i).encode(), value[:-2] + b"-" * (VALUE_BYTES - len(value)) + value[-2:]


def one_round(servers: str, topic: str, kind: str, records: int) -> Cost:
    """The whole topic once, in a process that has done nothing before."""
    with (
        fresh_names(servers, partitions=PARTITIONS, topics=("out", "dead")) as names,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        content = settings(servers, topic, names, "at_least_once" if kind == MEMORY else kind)
        return pool.submit(in_memory if kind == MEMORY else on_kafka, content, records).result(ROUND_S)


def settings(servers: str, topic: str, names: Mapping[str, str], delivery: str) -> dict[str, Any]:
    """What is not said here is as in production."""
    facets = {
        facet.name: {"kind": str(facet.kind), "labels": [label.name for label in facet.labels]}
        for facet in bench_labels().facets
    }
    return {
        "kafka": {"bootstrap_servers": servers, "group_id": names["group"]},
        "delivery": delivery,
        "model": {"name": "fake"},
        "http": {"port": free_port()},
        "label_sets": {"bench": {"facets": facets}},
        "streams": [{"topic": topic, "output": names["out"], "dead_letter": names["dead"], "label_set": "bench"}],
    }


def on_kafka(content: dict[str, Any], records: int) -> Cost:
    """As `streamer run` does it."""
    configure_logs(level="warning", form="console", stream=sys.stderr)
    asked = build_settings(content, origin="framework_cost")
    stop = threading.Event()
    meter = Meter(kind=asked.delivery, records=records, stop=stop)
    servers = asked.kafka.bootstrap_servers
    serve(
        asked,
        connection=Connection(servers, asked.kafka.client_properties(), embedded=False),
        stop=stop,
        observers=[meter],
        settings_path=None,
    )
    return _cost(meter)


def in_memory(content: dict[str, Any], records: int) -> Cost:
    """The same road between topics in plain memory."""
    configure_logs(level="warning", form="console", stream=sys.stderr)
    asked = build_settings(content, origin="framework_cost")
    label_sets, streams = asked.build_label_sets(), asked.build_streams()
    broker = MemoryBroker(
        partitions=PARTITIONS, max_message_bytes=1_000_000, now_ms=lambda: time.time_ns() // 1_000_000
    )
    for key, value in keyed_records(records):
        broker.produce(streams[0].topic, value, key=key)
    stop = threading.Event()
    meter = Meter(kind=MEMORY, records=records, stop=stop)
    limits = asked.limits
    with ExitStack() as running:
        telemetry = running.enter_context(
            Telemetry(
                streams=streams,
                address=None,
                stuck_after_s=ROUND_S,
                engine_stuck_after_s=ROUND_S,
                drift=None,
                drift_json=None,
                shadow=False,
                page=None,
            )
        )
        classifier = build_classifier(asked.model, max_tokens=asked.batching.max_tokens)
        running.callback(classifier.close)
        classifier.warm_up(list(label_sets.values()))
        telemetry.serving(
            classifier.describe(), list(label_sets.values()), window_records=window_records(asked, classifier)
        )
        settle_memory()
        observer = Observers(telemetry.observer, meter)
        source = MemorySource(broker=broker, group_id="memory", topics=[streams[0].topic], auto_offset_reset="earliest")
        delivery = AtLeastOnce(
            source=source,
            sink=MemorySink(broker=broker),
            observer=observer,
            commit_interval_s=limits.commit_interval_ms / 1000,
            clock=time.monotonic,
            sleep=time.sleep,
        )
        build_pipeline(
            asked,
            source=source,
            delivery=delivery,
            streams=streams,
            classifier=classifier,
            label_sets=label_sets,
            observer=observer,
        ).run(stop)
    return _cost(meter)


def _cost(meter: Meter) -> Cost:
    if meter.cost is None:
        raise LoadTestError("the loop ended before the last record was committed")
    return meter.cost


def medians(costs: Sequence[Cost]) -> dict[str, float]:
    """Of each thread's and each stage's time, and of the rate."""
    rows = [{"records_per_s": one.records_per_s, **one.by_thread_us, **one.by_stage_us} for one in costs]
    return {name: round(median(row.get(name, 0.0) for row in rows), 2) for name in rows[0]}


def show(console: Console, found: Mapping[str, Mapping[str, float]]) -> None:
    """A line for each kind."""
    table = Table(title="CPU of a record, microseconds (medians)", title_justify="left")
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    for name in ("", *names):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for kind, row in found.items():
        table.add_row(kind, *(f"{row.get(name, 0.0):,.1f}" for name in names))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
