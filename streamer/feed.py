"""`streamer produce`: a file's records to a topic, for try-outs and load.

Enters: a file of rows, a topic. Leaves: one acknowledged message per row. Must not know: labels, models.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.console import Console

from streamer.errors import DeliveryError, UsageError
from streamer.records import Outbound
from streamer.tables import count_rows, read_values, require_readable
from streamer.terminal import progress_bar
from streamer.transport.base import DeliveryOutcome, Refused, Sink

FLUSH_S = 0.1
BUFFER_MEMORY_MB = 32
QUIET = {"log_level": 0}  # of librdkafka: what goes wrong is told once, by the error
# how far a rate may lag behind and catch up: less than this is the clock's and the broker's unevenness
CATCH_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Produced:
    """What was sent, all of it acknowledged."""

    records: int
    bytes: int
    wall_s: float


class Pace:
    """Lets at most `rate` records pass a second (None: any number), spread evenly."""

    def __init__(self, *, rate: float | None, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._interval_s = 0.0 if rate is None else 1.0 / rate
        self._clock = clock
        self._sleep = sleep
        self._due_s = clock()

    def wait(self) -> None:
        """Return when the next record is due."""
        if not self._interval_s:
            return
        now_s = self._clock()
        if self._due_s > now_s:
            self._sleep(self._due_s - now_s)
        self._due_s = max(self._due_s, now_s - CATCH_UP_S) + self._interval_s


def produce_file(
    *,
    path: Path,
    topic: str,
    bootstrap_servers: str,
    properties: Mapping[str, str | int | float | bool],
    key_field: str | None,
    rate: float | None,
    repeat: int,
    limit: int | None,
    reach_timeout_s: float,
    console: Console,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Produced:
    """Send a file's rows to a topic and wait until each is acknowledged.

    Lines of .jsonl go byte for byte, rows of .csv and .parquet as JSON objects, lines of .txt as {"text": line}.
    `key_field` names the field whose value becomes the key (None: no keys), `rate` bounds records a second, the file
    is sent `repeat` times, and never more than `limit` records. `console` shows progress when it is a terminal.
    Raises UsageError for a missing file or topic, a broker that does not answer in `reach_timeout_s`, and a row
    without the key; DeliveryError for a record that is refused.
    """
    from streamer.transport.kafka_admin import topic_facts
    from streamer.transport.kafka_sink import KafkaSink

    require_readable(path)
    rows = count_rows(path)
    properties = {**QUIET, **properties}
    there = topic_facts(bootstrap_servers, properties, [topic], reach_timeout_s)
    if topic not in there:
        raise UsageError(f"topic '{topic}' is missing; create it: {create_command(bootstrap_servers, topic)}")
    sink = KafkaSink(
        bootstrap_servers=bootstrap_servers, properties=properties, buffer_memory_mb=BUFFER_MEMORY_MB, topics=there
    )
    bounds = [bound for bound in (None if rows is None else rows * repeat, limit) if bound is not None]
    feed = _Feed(sink=sink, topic=topic, pace=Pace(rate=rate, clock=clock, sleep=sleep))
    began_s = clock()
    try:
        with progress_bar(console, f"to {topic}", min(bounds, default=None)) as advance:
            for number, value in islice(_repeated(path, repeat), limit):
                feed.send(number, value, None if key_field is None else _key(path, number, value, key_field))
                advance(1)
            feed.finish()
    except KeyboardInterrupt:
        console.print(f"stopped after {feed.acknowledged:,} acknowledged records", markup=False, highlight=False)
        raise
    finally:
        sink.close()
    return Produced(feed.acknowledged, feed.bytes, clock() - began_s)


def parse_properties(flags: Sequence[str]) -> dict[str, str | int | float | bool]:
    """`name=value` of the command line, or `name=@file` for the content of a file.

    Raises UsageError for anything else, and for a secret given as it is: a command line is read by everyone on the
    machine. No value is repeated in an error.
    """
    from streamer.transport.kafka_client import is_secret

    properties: dict[str, str | int | float | bool] = {}
    for flag in flags:
        name, equals, value = flag.partition("=")
        if not (name and equals):
            raise UsageError(f"--property '{name}': write name=value, e.g. security.protocol=SASL_SSL")
        if value.startswith("@"):
            properties[name] = _content(name, Path(value[1:]))
        elif is_secret(name):
            raise UsageError(f"--property {name}: others can read a command line; write {name}=@FILE")
        else:
            properties[name] = value
    return properties


def _content(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"--property {name}: {path} cannot be read") from None


def create_command(bootstrap_servers: str, topic: str) -> str:
    """The line that makes a topic with Kafka's own tool."""
    return f"kafka-topics.sh --bootstrap-server {bootstrap_servers} --create --topic {topic} --partitions 6"


class _Feed:
    """Sends records and counts acknowledgements; the first that fails ends it."""

    def __init__(self, *, sink: Sink, topic: str, pace: Pace) -> None:
        self._sink = sink
        self._topic = topic
        self._pace = pace
        self._failure: Exception | None = None
        self.acknowledged = self.bytes = 0

    def send(self, row: int, value: bytes, key: bytes | None) -> None:
        def delivered(outcome: DeliveryOutcome) -> None:
            self._on_delivered(row, outcome)

        self._pace.wait()
        self._sink.send(Outbound(self._topic, key, value, (), None, dead_letter=False), delivered)
        self.bytes += len(value)
        self._raise_failure()

    def finish(self) -> None:
        """Wait for every acknowledgement; the sink gives up on its own when the broker stays away."""
        while self._sink.flush(FLUSH_S):
            self._raise_failure()
        self._raise_failure()

    def _on_delivered(self, row: int, outcome: DeliveryOutcome) -> None:
        if outcome is None:
            self.acknowledged += 1
        elif isinstance(outcome, Refused):
            self._failure = DeliveryError(f"topic '{self._topic}' refuses row {row}: {outcome.reason}")
        else:
            self._failure = outcome

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _repeated(path: Path, times: int) -> Iterator[tuple[int, bytes]]:
    """Numbered rows of the file, over and over."""
    for _ in range(times):
        yield from enumerate(read_values(path), 1)


def _key(path: Path, number: int, value: bytes, field: str) -> bytes:
    """The bytes of a key: a string as it is, a number or boolean as JSON writes it."""
    try:
        record = json.loads(value)  # keeps whole numbers of any size
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: row {number}: not JSON, so it has no key ({error})") from None
    found = record.get(field) if isinstance(record, dict) else None
    if found is None or isinstance(found, dict | list):
        raise UsageError(f"{path}: row {number}: no text or number in '{field}' to be the key")
    return found.encode() if isinstance(found, str) else json.dumps(found).encode()
