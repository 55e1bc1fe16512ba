"""Texts whose right labels are known, through a real `streamer run` on Apache Kafka: rate, accuracy, and the balance.

    python -m load_tests.labelled_input FILE.parquet [--model bundled]

FILE has the columns dataset, split, text and labels (a list, its first entry the right one). Of two data sets so many
rows are taken at random, from the split that has most of them, and sent to a topic each; the label set of a topic is
the data set's own list of labels, as one facet. Nothing is fitted. Exit code 1 when a record is lost.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from load_tests.harness import LoadTestError, exit_with, fresh_names, kafka_broker, produce
from load_tests.process import streamer_run
from load_tests.reading import balance, dead_letter_id, positions, read_all

PARTITIONS = 4
READY_S = 300.0
FACET = "label"
SEED = 1
DEFAULT_ROWS = ("banking77=3000", "semeval2017_sentiment=2000")


@dataclass(frozen=True, slots=True)
class DataSet:
    """Texts of one data set with their right labels, and all labels there are."""

    name: str
    texts: tuple[str, ...]
    gold: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back of one data set. Accuracy counts labelled records alone; `models` are named by the events."""

    dataset: str
    models: tuple[str, ...]
    labels: int
    records: int
    outputs: int
    dead_letters: int
    duplicates: int
    lost: int
    accuracy: float


def main(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Labelled parquet file.")],
    model: Annotated[str, typer.Option(help="bundled, a directory, or a Hugging Face id.")] = "bundled",
    rows: Annotated[list[str] | None, typer.Option(help="dataset=rows; may be repeated.")] = None,
    delivery: Annotated[str, typer.Option(help="at_least_once or exactly_once.")] = "at_least_once",
    timeout_s: Annotated[float, typer.Option(min=1, help="For labelling them all.")] = 1800.0,
) -> None:
    """Label two data sets and compare with what is right."""

    def test() -> bool:
        sets = [read_dataset(path, *name_and_rows(one)) for one in rows or DEFAULT_ROWS]
        return run_labelled_input(Console(stderr=True), sets, model, delivery, timeout_s)

    exit_with(test)


def name_and_rows(flag: str) -> tuple[str, int]:
    """`dataset=rows`, taken apart."""
    name, _, count = flag.partition("=")
    if not count.isdecimal() or not int(count):
        raise LoadTestError(f"--rows '{flag}': a data set and a number of rows are needed, e.g. {DEFAULT_ROWS[0]}")
    return name, int(count)


def read_dataset(path: Path, name: str, rows: int) -> DataSet:
    """`rows` rows of a data set at random, from its largest split."""
    table = pq.read_table(path, columns=["dataset", "split", "text", "labels"])
    table = table.filter(pc.equal(table["dataset"], name))
    labels = sorted({label for given in table["labels"].to_pylist() for label in given})
    splits = Counter(table["split"].to_pylist())
    if not splits:
        raise LoadTestError(f"{path}: no data set '{name}'")
    table = table.filter(pc.equal(table["split"], splits.most_common(1)[0][0]))
    if table.num_rows < rows:
        raise LoadTestError(f"{path}: '{name}' has {table.num_rows} rows, not {rows}")
    table = table.take(random.Random(SEED).sample(range(table.num_rows), rows))
    gold = tuple(given[0] for given in table["labels"].to_pylist())
    return DataSet(name, tuple(table["text"].to_pylist()), gold, tuple(labels))


def run_labelled_input(console: Console, sets: Sequence[DataSet], model: str, delivery: str, timeout_s: float) -> bool:
    """True when no record was lost; prints a table, and the figures as the last line."""
    topics = [f"{one.name}{end}" for one in sets for end in ("", "-out", "-dead")]
    total = sum(len(one.texts) for one in sets)
    with kafka_broker() as servers, fresh_names(servers, partitions=PARTITIONS, topics=topics) as names:
        for one in sets:
            records = ((str(i).encode(), orjson.dumps({"id": i, "text": text})) for i, text in enumerate(one.texts))
            produce(servers, names[one.name], records)
        console.print(f"{total:,} records wait at {servers}")
        with streamer_run({**settings(servers, names, sets, model), "delivery": delivery}) as process:
            process.wait_ready(READY_S)
            wall_s = process.until_ended(total, timeout_s, console)[-1].at_s
            exit_code = process.terminate()
        found = [read_back(servers, names, one) for one in sets]
    outcomes = [outcome for outcome, _ in found]
    stamps = sorted(stamp for _, some in found for stamp in some)
    show_outcomes(console, outcomes)
    report = {
        "records": total,
        "records_per_s": round(steady_rate(stamps), 2),
        "wall_s": round(wall_s, 2),
        "wall_records_per_s": round(total / wall_s, 2),
        "sets": [asdict(outcome) for outcome in outcomes],
        "lost": sum(outcome.lost for outcome in outcomes),
        "exit_code": exit_code,
    }
    print(orjson.dumps(report).decode(), flush=True)
    return report["lost"] == exit_code == 0


def settings(servers: str, names: dict[str, str], sets: Sequence[DataSet], model: str) -> dict[str, Any]:
    """Settings of the process: what is not said here is as in production."""
    return {
        "kafka": {"bootstrap_servers": servers, "group_id": names["group"]},
        "model": {"name": model},
        "label_sets": {one.name: {"facets": {FACET: {"labels": list(one.labels)}}} for one in sets},
        "streams": [
            {
                "topic": names[one.name],
                "output": names[f"{one.name}-out"],
                "dead_letter": names[f"{one.name}-dead"],
                "label_set": one.name,
                "scores": "labels",
            }
            for one in sets
        ],
    }


def read_back(servers: str, names: dict[str, str], dataset: DataSet) -> tuple[Outcome, list[int]]:
    """What became of a data set's records, and when each was classified, in milliseconds."""
    given: dict[int, list[str]] = {}
    models: set[str] = set()
    ids: list[str] = []
    stamps: list[int] = []
    for message in read_all(servers, names[f"{dataset.name}-out"]):
        event = orjson.loads(message.value() or b"")
        ids.append(event["id"])
        models.add("{name}@{revision}".format_map(event["model"]))
        stamps.append(event["classified_at_ms"])
        given[int(message.key() or b"")] = event["facets"][FACET]["labels"]
    dead = map(dead_letter_id, read_all(servers, names[f"{dataset.name}-dead"]))
    counted = balance(positions(servers, names[dataset.name]), ids, dead)
    right = sum(labels == [dataset.gold[row]] for row, labels in given.items())
    outcome = Outcome(
        dataset=dataset.name,
        models=tuple(sorted(models)),
        labels=len(dataset.labels),
        records=counted.records,
        outputs=counted.outputs,
        dead_letters=counted.dead_letters,
        duplicates=counted.duplicates,
        lost=counted.lost,
        accuracy=round(right / max(1, len(given)), 4),
    )
    return outcome, stamps


def steady_rate(stamps_ms: Sequence[int]) -> float:
    """Records per second between the first and the last window: those of the first were begun before the clock."""
    after_first = sum(stamp > stamps_ms[0] for stamp in stamps_ms)
    return after_first / max(1e-3, (stamps_ms[-1] - stamps_ms[0]) / 1000) if stamps_ms else 0.0


def show_outcomes(console: Console, outcomes: Sequence[Outcome]) -> None:
    """A line for each data set."""
    table = Table(title="labelled input", title_justify="left")
    for name in ("data set", "labels", "in", "out", "dead", "twice", "lost", "right"):
        table.add_column(name, justify="left" if name == "data set" else "right")
    for one in outcomes:
        counts = (one.labels, one.records, one.outputs, one.dead_letters, one.duplicates, one.lost)
        table.add_row(one.dataset, *(f"{count:,}" for count in counts), f"{one.accuracy:.3f}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
