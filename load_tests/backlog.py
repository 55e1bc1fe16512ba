"""A backlog of small records through a real `streamer run` on Apache Kafka: memory stays flat, none is lost.

    python -m load_tests.backlog [--records 200000] [--value-bytes 1000]

The model is `fake` (no device work), so this measures the road itself: at_least_once, one process. As a whole the
backlog is several times as large as the memory for records fetched ahead. Of every thousand records one is no JSON and
must end as a dead letter. Exit code 1 when a record is lost, memory grows, or SIGTERM does not end the process with
exit code 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import cycle
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from load_tests.harness import exit_with, fresh_names, kafka_broker, produce
from load_tests.process import Sample, streamer_run
from load_tests.reading import Balance, balance, dead_letter_id, positions, read_all
from streamer.bench.texts import bench_texts

PARTITIONS = 6
READY_S = 60.0
TEXT_CHARACTERS = 100
BAD_EVERY = 1000
SETTLED_SHARE = 0.25  # caches and queues fill until so much has been labelled
GROWTH_MB = 50.0
TABLE_ROWS = 12


def main(
    records: Annotated[int, typer.Option(min=1000, help="How many.")] = 200_000,
    value_bytes: Annotated[int, typer.Option(min=300, help="Of each.")] = 1000,
    timeout_s: Annotated[float, typer.Option(min=1, help="For labelling them all.")] = 900.0,
) -> None:
    """Label a backlog and look at memory and counts."""
    exit_with(lambda: run_backlog(Console(stderr=True), records, value_bytes, timeout_s))


def run_backlog(console: Console, records: int, value_bytes: int, timeout_s: float) -> bool:
    """True when all went well; prints a table, and the figures as the last line."""
    with (
        kafka_broker() as servers,
        fresh_names(servers, partitions=PARTITIONS, topics=("in", "out", "dead")) as names,
    ):
        sent = produce(servers, names["in"], small_records(records, value_bytes))
        console.print(f"{sent:,} records wait in {names['in']} at {servers}")
        with streamer_run(settings(servers, names)) as process:
            process.wait_ready(READY_S)
            samples = process.until_ended(sent, timeout_s, console)
            exit_code = process.terminate()
        outputs = (orjson.loads(message.value() or b"")["id"] for message in read_all(servers, names["out"]))
        dead = map(dead_letter_id, read_all(servers, names["dead"]))
        counted = balance(positions(servers, names["in"]), outputs, dead)
    show_samples(console, samples)
    found = figures(samples, counted, exit_code)
    print(orjson.dumps(found).decode(), flush=True)
    return bool(found["flat"]) and counted.lost == counted.unknown == exit_code == 0


def small_records(count: int, value_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of each record: a text, and other fields that are not looked at."""
    for i, text in zip(range(count), cycle(bench_texts(1000, seed=1)), strict=False):
        value = orjson.dumps({"id": i, "text": text[:TEXT_CHARACTERS], "attachment": ""})
        value = value[:-2] + b"-" * (value_bytes - len(value)) + value[-2:]
        yield str(i).encode(), value if i % BAD_EVERY else b"<no JSON>" + value


def settings(servers: str, names: dict[str, str]) -> dict[str, Any]:
    """Settings of the process: what is not said here is as in production."""
    sentiment = {"labels": ["negative", "neutral", "positive"]}
    topic = {"kind": "multi", "labels": ["billing", "delivery", "outage", "praise"]}
    return {
        "kafka": {"bootstrap_servers": servers, "group_id": names["group"]},
        "delivery": "at_least_once",
        "model": {"name": "fake"},
        "label_sets": {"small": {"facets": {"sentiment": sentiment, "topic": topic}}},
        "streams": [{"topic": names["in"], "output": names["out"], "dead_letter": names["dead"], "label_set": "small"}],
    }


def figures(samples: list[Sample], counted: Balance, exit_code: int) -> dict[str, Any]:
    """What the last line says. `growth_mb`: from when a quarter was labelled to the highest after that."""
    settled = [one.rss_mb for one in samples if one.ended >= SETTLED_SHARE * counted.records]
    growth_mb = max(settled) - settled[0]
    return {
        **asdict(counted),
        "seconds": round(samples[-1].at_s, 2),
        "records_per_s": round(counted.records / samples[-1].at_s, 1),
        "rss_mb_start": round(samples[0].rss_mb, 1),
        "rss_mb_peak": round(max(one.rss_mb for one in samples), 1),
        "rss_mb_end": round(samples[-1].rss_mb, 1),
        "growth_mb": round(growth_mb, 1),
        "flat": growth_mb <= GROWTH_MB,
        "exit_code": exit_code,
    }


def show_samples(console: Console, samples: list[Sample]) -> None:
    """Memory over time, evenly picked."""
    table = Table(title="streamer run, seen from outside", title_justify="left")
    for name in ("seconds", "records ended", "memory (RSS), MB"):
        table.add_column(name, justify="right")
    step = max(1, len(samples) // TABLE_ROWS)
    for one in [*samples[:-1:step], samples[-1]]:
        table.add_row(f"{one.at_s:.1f}", f"{one.ended:,}", f"{one.rss_mb:.1f}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
