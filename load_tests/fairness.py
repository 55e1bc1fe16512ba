"""Tickets at a low, steady rate, posts in a flood: how long a ticket waits for its label, with the flood and without.

    python -m load_tests.fairness [--weight 4] [--max-records 128]

Through a real `streamer run` on Apache Kafka. The model is `fake` with 2 ms a record, so that the engine is what all
wait for (500 records a second at most). Tickets are sent at 5 a second, whatever comes back (an open loop); each is
stamped with the moment at which it was due, and a reader that runs beside takes the time at which its event is there.
First the tickets are alone; then 100,000 posts are sent at once. All else is as by default.

A ticket may wait for the windows under way, for its own one, and for the wait and the poll before it. Under the flood
each window is full, so the bound is (2 + 1) * max_records * 2 ms, and half a second for the rest. Exit code 1 when the
tickets' 95th percentile exceeds it, posts get less than 80 % of what the tickets leave of the engine, a ticket is lost
or labelled twice, or the process does not end with exit code 0.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle
from threading import Event, Thread
from typing import Annotated, Any

import orjson
import typer
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from rich.console import Console
from rich.table import Table

from load_tests.harness import REQUEST_S, LoadTestError, exit_with, fresh_names, kafka_broker, produce
from load_tests.process import StreamerRun, streamer_run
from load_tests.spread import percentile
from streamer.bench.texts import bench_texts

PARTITIONS = 12
SERVICE_MS = 2.0
AUTO_RECORDS = 1024  # a window of the model `fake`
WINDOWS_UNDER_WAY = 2
REST_S = 0.5  # gathering (20 ms), polling (50 ms), sending, reading back
SETTLE_S = 5.0
LEAST_SHARE = 0.8
READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: tickets a second, how long without posts and how long with them, and how many posts."""

    tickets_per_s: float
    quiet_s: float
    flood_s: float
    posts: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A ticket's event: when the ticket was due (Unix seconds), and how long after that the event was there."""

    number: int
    due_s: float
    wait_s: float


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds from when a ticket was due to when its event was there."""

    tickets: int
    p50_s: float
    p95_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. `posts_per_s` and `tickets_per_s` are those labelled under the flood."""

    weight: int
    max_records: int
    quiet: Waits
    flood: Waits
    bound_s: float
    posts_per_s: float
    tickets_per_s: float
    lost: int
    duplicates: int
    exit_code: int

    def failures(self) -> list[str]:
        """What is not as it should be."""
        left_per_s = 1000 / SERVICE_MS - self.tickets_per_s
        checks = {
            "tickets wait too long": self.flood.p95_s <= self.bound_s,
            "posts stand still": self.posts_per_s >= LEAST_SHARE * left_per_s,
            "tickets": self.lost == self.duplicates == 0,
            "exit code": self.exit_code == 0,
        }
        return [name for name, good in checks.items() if not good]


def main(
    weight: Annotated[int, typer.Option(min=1, help="Of the tickets; that of the posts is 1.")] = 1,
    max_records: Annotated[int, typer.Option(min=1, help="Of a window.")] = AUTO_RECORDS,
    tickets_per_s: Annotated[float, typer.Option(min=0.1, help="Sent.")] = 5.0,
    quiet_s: Annotated[float, typer.Option(min=1, help="Without posts.")] = 30.0,
    flood_s: Annotated[float, typer.Option(min=10, help="With posts.")] = 60.0,
    flood: Annotated[int, typer.Option(min=1000, help="Posts, sent at once.")] = 100_000,
) -> None:
    """See how long tickets wait."""
    load = Load(tickets_per_s, quiet_s, flood_s, flood)
    exit_with(lambda: run_fairness(Console(stderr=True), weight, max_records, load))


def run_fairness(console: Console, weight: int, max_records: int, load: Load) -> bool:
    """True when all went well; prints a table, and the figures as the last line."""
    topics = ("tickets", "posts", "tickets-out", "posts-out", "dead")
    with (
        kafka_broker() as servers,
        fresh_names(servers, partitions=PARTITIONS, topics=topics) as names,
        streamer_run(settings(servers, names, weight, max_records)) as process,
    ):
        process.wait_ready(READY_S)
        outcome = observe(servers, names, process, weight, max_records, load)
    show(console, outcome)
    print(orjson.dumps({**asdict(outcome), "failures": outcome.failures()}).decode(), flush=True)
    return not outcome.failures()


def settings(servers: str, names: Mapping[str, str], weight: int, max_records: int) -> dict[str, Any]:
    """Settings of the process: what is not said here is as in production."""
    common = {"dead_letter": names["dead"], "label_set": "small"}
    return {
        "kafka": {"bootstrap_servers": servers, "group_id": names["group"]},
        "model": {"name": "fake", "service_time_ms": SERVICE_MS},
        "batching": {"max_records": max_records},
        "label_sets": {"small": {"facets": {"sentiment": {"labels": ["negative", "neutral", "positive"]}}}},
        "streams": [
            {"topic": names["tickets"], "output": names["tickets-out"], "weight": weight, **common},
            {"topic": names["posts"], "output": names["posts-out"], **common},
        ],
    }


def observe(
    servers: str, names: Mapping[str, str], process: StreamerRun, weight: int, max_records: int, load: Load
) -> Outcome:
    """Send tickets, then posts beside them, and take the times."""
    bound_s = (WINDOWS_UNDER_WAY + 1) * max_records * SERVICE_MS / 1000 + REST_S
    with reading(servers, names["tickets-out"]) as seen:
        with sending(servers, names["tickets"], load.tickets_per_s) as sent:
            time.sleep(load.quiet_s)
            quiet = list(seen)
            produce(servers, names["posts"], posts(load.posts))
            time.sleep(SETTLE_S)
            before_s, before, flood_s = time.monotonic(), published(process), time.time()
            time.sleep(load.flood_s)
            after_s, after = time.monotonic(), published(process)
        deadline_s = time.monotonic() + 2 * bound_s + REQUEST_S
        while len(seen) < len(sent) and time.monotonic() < deadline_s:
            time.sleep(0.1)
    exit_code = process.terminate()
    per_s = {topic: round((after[topic] - before[topic]) / (after_s - before_s), 1) for topic in after}
    numbers = Counter(one.number for one in seen)
    return Outcome(
        weight=weight,
        max_records=max_records,
        quiet=waits(quiet),
        flood=waits([one for one in seen if one.due_s >= flood_s]),
        bound_s=round(bound_s, 3),
        posts_per_s=per_s[names["posts"]],
        tickets_per_s=per_s[names["tickets"]],
        lost=len(set(sent) - numbers.keys()),
        duplicates=numbers.total() - len(numbers),
        exit_code=exit_code,
    )


def posts(count: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of each."""
    for i, text in zip(range(count), cycle(bench_texts(1000, seed=2)), strict=False):
        yield str(i).encode(), orjson.dumps({"text": text})


def published(process: StreamerRun) -> dict[str, float]:
    """Input topic -> outputs acknowledged."""
    return {
        one.labels["topic"]: one.value for one in process.series() if one.name == "streamer_records_published_total"
    }


@contextmanager
def beside(work: Callable[[Event], None]) -> Iterator[None]:
    """Do this on a thread of its own; it is asked to stop when the context ends."""
    stop = Event()
    thread = Thread(target=work, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(REQUEST_S)


@contextmanager
def sending(servers: str, topic: str, per_s: float) -> Iterator[list[int]]:
    """Send tickets at this rate; yields their numbers, which are their keys. Their timestamps say when they were
    due."""
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 0, "log_level": 3})
    texts = cycle(bench_texts(1000, seed=1))
    sent: list[int] = []
    began_s = time.time()

    def work(stop: Event) -> None:
        while not stop.wait(max(0.0, began_s + len(sent) / per_s - time.time())):
            due_s = began_s + len(sent) / per_s
            value = orjson.dumps({"text": next(texts)})
            producer.produce(topic, value, str(len(sent)).encode(), timestamp=int(due_s * 1000))
            sent.append(len(sent))
            producer.poll(0)

    with beside(work):
        yield sent
    if producer.flush(REQUEST_S):
        raise LoadTestError(f"topic {topic}: not all tickets could be sent")


@contextmanager
def reading(servers: str, topic: str) -> Iterator[list[Seen]]:
    """Read events as they come; yields those seen so far."""
    config = {"bootstrap.servers": servers, "group.id": topic, "enable.auto.commit": False, "log_level": 3}
    consumer = Consumer({**config, "isolation.level": "read_committed", "fetch.wait.max.ms": 50})
    consumer.assign([TopicPartition(topic, part, OFFSET_BEGINNING) for part in range(PARTITIONS)])
    seen: list[Seen] = []

    def work(stop: Event) -> None:
        while not stop.is_set():
            for message in consumer.consume(100, 0.05):
                if message.error() is None:
                    due_s = message.timestamp()[1] / 1000
                    seen.append(Seen(int(message.key() or b""), due_s, time.time() - due_s))

    try:
        with beside(work):
            yield seen
    finally:
        consumer.close()


def waits(some: Sequence[Seen]) -> Waits:
    """Raises LoadTestError where there is none."""
    if not some:
        raise LoadTestError("no ticket came back")
    seconds = [one.wait_s for one in some]
    spread = (percentile(seconds, 0.5), percentile(seconds, 0.95), max(seconds))
    return Waits(len(some), *(round(value, 3) for value in spread))


def show(console: Console, outcome: Outcome) -> None:
    """Waits with and without the flood, and what is wrong."""
    title = f"tickets, weight {outcome.weight}, windows of {outcome.max_records} records: seconds from due to labelled"
    table = Table(title=title, title_justify="left")
    for name in ("posts", "tickets", "p50", "p95", "longest", "bound"):
        table.add_column(name, justify="left" if name == "posts" else "right")
    for name, one, bound in (("none", outcome.quiet, ""), ("a flood", outcome.flood, f"{outcome.bound_s:.2f}")):
        table.add_row(name, str(one.tickets), *(f"{value:.2f}" for value in (one.p50_s, one.p95_s, one.max_s)), bound)
    console.print(table)
    console.print(
        f"under the flood {outcome.posts_per_s:.0f} posts/s and {outcome.tickets_per_s:.1f} tickets/s were labelled; "
        f"wrong: {', '.join(outcome.failures()) or 'nothing'}",
        markup=False,
        highlight=False,
    )


if __name__ == "__main__":
    typer.run(main)
