"""Reading back what a load test wrote, and accounting for every record.

Enters: an address, names of topics. Leaves: messages as a read_committed reader finds them, ids, a Balance.
Waits are bounded in time. Must not know: what ran meanwhile.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from load_tests.harness import REQUEST_S, LoadTestError
from streamer.encode import DEAD_LETTER_HEADER


def positions(bootstrap_servers: str, topic: str) -> set[str]:
    """Ids of all records of a topic, as events name them."""
    reader = _reader(bootstrap_servers)
    try:
        return {f"{topic}-{part}-{i}" for part, end in _ends(reader, topic).items() for i in range(end)}
    finally:
        reader.close()


def read_all(bootstrap_servers: str, topic: str) -> Iterator[Message]:
    """All that a read_committed reader finds now."""
    reader = _reader(bootstrap_servers)
    try:
        left = {part: end for part, end in _ends(reader, topic).items() if end > 0}
        reader.assign([TopicPartition(topic, part, 0) for part in left])
        last_s = time.monotonic()
        while left:
            for message in reader.consume(10_000, 0.2):
                error = message.error()
                if error is None:
                    last_s = time.monotonic()
                    yield message
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise LoadTestError(f"topic {topic}: {error}")
                # marks of transactions are no records, so only this tells that a partition was read to its end
                elif (message.offset() or 0) >= left.get(message.partition() or 0, 0):
                    left.pop(message.partition() or 0, None)
            if time.monotonic() - last_s > REQUEST_S:
                raise LoadTestError(f"topic {topic}: nothing to read for {REQUEST_S:g} s, more was expected")
    finally:
        reader.close()


def _reader(bootstrap_servers: str) -> Consumer:
    settings = {
        "bootstrap.servers": bootstrap_servers,
        "group.id": f"load-reader-{uuid.uuid4().hex}",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }
    return Consumer(settings)


def _ends(reader: Consumer, topic: str) -> dict[int, int]:
    """Partition -> the offset after its last record."""
    parts = reader.list_topics(topic, timeout=REQUEST_S).topics[topic].partitions
    return {part: reader.get_watermark_offsets(TopicPartition(topic, part), REQUEST_S)[1] for part in parts}


def dead_letter_id(message: Message) -> str:
    """The id of the input record that a dead letter repeats."""
    headers = dict(message.headers() or [])
    parts = (headers[DEAD_LETTER_HEADER + name] for name in ("topic", "partition", "offset"))
    return "-".join(part.decode() for part in parts if isinstance(part, bytes))


@dataclass(frozen=True, slots=True)
class Balance:
    """Inputs against what came of them. `lost`: inputs without any; `duplicates`: outputs and dead letters beyond
    the first of their input; `unknown`: ids that no input has."""

    records: int
    outputs: int
    dead_letters: int
    duplicates: int
    lost: int
    unknown: int


def balance(inputs: set[str], outputs: Iterable[str], dead_letters: Iterable[str]) -> Balance:
    """Account for every record by its id."""
    labelled, dead = Counter(outputs), Counter(dead_letters)
    seen = labelled + dead
    return Balance(
        records=len(inputs),
        outputs=labelled.total(),
        dead_letters=dead.total(),
        duplicates=seen.total() - len(seen),
        lost=len(inputs - seen.keys()),
        unknown=len(seen.keys() - inputs),
    )
