"""Records fetched by position.

Enters: a Store with the positions that are wanted, streams. Leaves: their texts in the Store, found by the road's own
decoder, or why there is none. Must not know: what the texts are for, terminals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from streamer.decode import Decoder
from streamer.errors import UsageError
from streamer.feedback.store import Problem, Store
from streamer.records import Partition, Position, Reject
from streamer.terminal import Advance
from streamer.transport.kafka_client import Properties
from streamer.transport.kafka_range import Bound, Edge, Range, RangeReader, find_ranges

FETCH_MEMORY_MB = 16
POLL_RECORDS, POLL_S = 500, 0.2
PATIENCE_S = 30.0
WANTED_AT_ONCE = 1_000
# records read in vain, between two that are wanted: about what going to another place takes
MOST_BETWEEN = 1_000


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the topics are, and how long to wait for an answer."""

    bootstrap_servers: str
    properties: Properties
    timeout_s: float

    def ranges(self, topic: str, since: Bound = Edge.BEGINNING) -> dict[Partition, Range]:
        """What every partition of a topic holds now, from `since` on. Raises UsageError for a topic that is missing."""
        found = find_ranges(
            self.bootstrap_servers,
            self.properties,
            topic,
            since=since,
            until=Edge.END,
            timeout_s=self.timeout_s,
        )
        return {one.at: one for one in found}

    def open(self, ranges: Sequence[Range]) -> RangeReader:
        """A reader of these ranges, and of others after them."""
        return RangeReader(
            bootstrap_servers=self.bootstrap_servers,
            properties=self.properties,
            ranges=ranges,
            fetch_memory_mb=FETCH_MEMORY_MB,
            patience_s=PATIENCE_S,
        )


def join_records(store: Store, cluster: Cluster, decoder: Decoder, *, advance: Advance) -> None:
    """Find the text of every record that the store wants; `advance` is told of each that is settled.

    Raises UsageError for missing rights, TransientError when the broker goes away.
    """
    there = _there(store, cluster)
    reader = cluster.open([])
    try:
        for at in store.partitions():
            for offsets in _stretches(store, at):
                left = _refuse(store, at, offsets, there.get(at), advance)
                if left:
                    _read(store, reader, decoder, at, left, advance)
    finally:
        reader.close()


def _there(store: Store, cluster: Cluster) -> Mapping[Partition, Range]:
    there: dict[Partition, Range] = {}
    for topic in sorted({at.topic for at in store.partitions()}):
        try:
            there |= cluster.ranges(topic)
        except UsageError as error:
            raise UsageError(f"input topic of the corrected records: {error}") from None
    return there


def _stretches(store: Store, at: Partition) -> Iterator[list[int]]:
    """Offsets that are wanted, in lists to be read in one go."""
    after = -1
    while offsets := store.wanted(at, after, WANTED_AT_ONCE):
        after = offsets[-1]
        begin = 0
        for end in range(1, len(offsets) + 1):
            if end == len(offsets) or offsets[end] - offsets[end - 1] > MOST_BETWEEN:
                yield offsets[begin:end]
                begin = end


def _refuse(store: Store, at: Partition, offsets: list[int], there: Range | None, advance: Advance) -> list[int]:
    """Tell of offsets that lie outside of what is there; returns the others."""
    for offset in offsets:
        if there is None:
            why = Reject("not_there", f"the topic has no partition {at.partition}")
        elif offset < there.begin:
            why = Reject("expired", "the broker has deleted the record")
        elif offset >= there.end:
            why = Reject("not_there", "no record stands there yet that a reader may see")
        else:
            continue
        _settle(store, Position(*at, offset), why, advance)
    return [offset for offset in offsets if there is not None and there.begin <= offset < there.end]


def _read(
    store: Store, reader: RangeReader, decoder: Decoder, at: Partition, offsets: list[int], advance: Advance
) -> None:
    wanted = set(offsets)
    reader.read_next([Range(at, offsets[0], offsets[-1] + 1)])
    while not reader.done:
        texts = []
        for record in reader.poll(POLL_RECORDS, POLL_S):
            if record.position.offset not in wanted:
                continue
            wanted.discard(record.position.offset)
            decoded = decoder.decode(record)
            if isinstance(decoded, Reject):
                _settle(store, record.position, decoded, advance)
            else:
                texts.append((record.position, decoded.text))
                advance(1)
        store.found(texts)
    for offset in sorted(wanted):
        why = Reject("gone", "no record stands there: compacted away, expired meanwhile, or of an aborted transaction")
        _settle(store, Position(*at, offset), why, advance)


def _settle(store: Store, record: Position, why: Reject, advance: Advance) -> None:
    """A record without a text counts as a problem unless an earlier run has its text."""
    advance(1)
    if not store.has_earlier(record):
        store.problem(Problem("", str(record), why.code, why.message))
