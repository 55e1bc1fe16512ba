"""Counts for a baseline: from records that are labelled for it, or from a process that counts them anyway.

Enters: values of records as they stand in an input topic, or the address of a running process. Leaves: StreamCounts.
Must not know: the command line, files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from streamer.app import REACH_TIMEOUT_S, Connection
from streamer.decode import Decoder
from streamer.drift.baseline import parse_baseline
from streamer.drift.counts import StreamTally, sample_of
from streamer.drift.report import StreamCounts
from streamer.engine.base import Classifier
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.offline import label_records
from streamer.records import Document, Envelope, Position, Reject, Stream
from streamer.tables import batched

MOST_BYTES = 64 * 1024 * 1024
PATIENCE_S = 60.0
FETCH_MEMORY_MB = 32
READ_RECORDS, READ_S = 500, 0.2
COUNTED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Collected:
    """What was counted of a stream, and how many of its records cannot be labelled."""

    counts: StreamCounts
    rejects: int


def count_values(
    values: Iterable[bytes | None], *, stream: Stream, label_set: LabelSet, classifier: Classifier
) -> Collected:
    """Label records of a stream and count them, each as much as the others."""
    tally = StreamTally(label_set, decay=1.0)
    rejects = 0
    answers = label_records(classifier, _decoded(values, stream, label_set))
    for batch in batched(answers, COUNTED_AT_ONCE):
        samples = [sample_of(answer, text) for text, answer in batch if not isinstance(answer, Reject)]
        rejects += len(batch) - len(samples)
        if samples:
            tally.add(samples)
    return Collected(tally.counts(), rejects)


def _decoded(
    values: Iterable[bytes | None], stream: Stream, label_set: LabelSet
) -> Iterator[tuple[str, Document | Reject]]:
    decoder = Decoder(streams={stream.topic: stream}, label_sets={stream.label_set: label_set})
    for offset, value in enumerate(values):
        found = decoder.decode(Envelope(Position(stream.topic, 0, offset), 0, None, (), None, value, None))
        yield found.text if isinstance(found, Document) else "", found


def topic_values(connection: Connection, topic: str, *, since: str, until: str, now_ms: int) -> Iterator[bytes | None]:
    """Values of the records of a stretch, see `bounds`. Raises UsageError for a wrong bound or a missing topic,
    TransientError when the broker goes away."""
    from streamer.bounds import parse_bound
    from streamer.transport.kafka_range import RangeReader, find_ranges

    servers, properties = connection.bootstrap_servers, connection.properties
    bounds = {
        "since": parse_bound(since, "--since", now_ms=now_ms),
        "until": parse_bound(until, "--until", now_ms=now_ms),
    }
    reader = RangeReader(
        bootstrap_servers=servers,
        properties=properties,
        ranges=find_ranges(servers, properties, topic, **bounds, timeout_s=REACH_TIMEOUT_S),
        fetch_memory_mb=FETCH_MEMORY_MB,
        patience_s=PATIENCE_S,
    )
    try:
        while not reader.done:
            for record in reader.poll(READ_RECORDS, READ_S):
                yield record.value
    finally:
        reader.close()


def fetch_counts(url: str) -> dict[str, StreamCounts]:
    """What a running process counted lately, from its `/drift`. Raises UsageError where there is no answer."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url {url[:80]!r}: write http://HOST:PORT/drift, of a process that runs with `drift`")
    try:
        with urlopen(url, timeout=REACH_TIMEOUT_S) as answer:  # noqa: S310 - the scheme is looked at above
            content = answer.read(MOST_BYTES)
    except HTTPError as error:
        error.close()  # it holds the connection
        hint = "; its settings need `drift`, and the path /drift" if error.code == 404 else ""
        raise UsageError(f"--url {url}: answers {error.code} {error.reason}{hint}") from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise UsageError(f"--url {url}: no answer ({getattr(error, 'reason', error)}); does the process run?") from None
    return parse_baseline(content, origin=url)
