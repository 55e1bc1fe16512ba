"""From the command line to dead letters: which cluster, which topics, which stretch of them.

Enters: settings or an address, a bound, positions. Leaves: DeadLetters, partition by partition in order.
Must not know: terminals, what becomes of the letters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.app import REACH_TIMEOUT_S
from streamer.dlq.letters import DeadLetter, open_letter
from streamer.errors import UsageError
from streamer.feed import QUIET, parse_properties
from streamer.records import Position
from streamer.settings import EMBEDDED, load_settings
from streamer.terminal import Advance
from streamer.transport.kafka_admin import topic_facts
from streamer.transport.kafka_client import Properties
from streamer.transport.kafka_range import AtOffset, Bound, Edge, Range, RangeReader, find_ranges

FETCH_MEMORY_MB = 16
POLL_RECORDS, POLL_S = 500, 0.2
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster and its dead-letter topics; `inputs` names the input topics whose dead letters each may hold, none
    where no settings tell."""

    bootstrap_servers: str
    properties: Properties
    inputs: Mapping[str, frozenset[str]]

    @property
    def topics(self) -> tuple[str, ...]:
        return tuple(self.inputs)

    def topics_for(self, input_topic: str) -> tuple[str, ...]:
        """Where the dead letters of an input topic are: as the settings say, or else anywhere."""
        return tuple(topic for topic, inputs in self.inputs.items() if input_topic in inputs) or self.topics


def find_place(*, config: Path | None, topic: str | None, bootstrap: str | None, properties: Sequence[str]) -> Place:
    """Settings name the cluster and its dead-letter topics, or flags do. Raises UsageError for what does not go
    together, a cluster out of reach, a topic that is missing."""
    if config is None:
        if topic is None or bootstrap is None:
            raise UsageError("give a settings file with -c, or --bootstrap HOST:PORT and --topic DEAD_LETTER_TOPIC")
        place = Place(bootstrap, {**QUIET, **parse_properties(properties)}, {topic: frozenset()})
    else:
        if bootstrap is not None or properties:
            raise UsageError("--bootstrap and --property stand in for a settings file; leave them out with -c")
        settings = load_settings(config)
        if settings.kafka.bootstrap_servers == EMBEDDED:
            raise UsageError(f"{config}: the embedded broker is gone with the process that ran it, dead letters too")
        inputs: dict[str, frozenset[str]] = {} if topic is None else {topic: frozenset()}
        for stream in settings.streams:
            if topic in (None, stream.dead_letter):
                inputs[stream.dead_letter] = inputs.get(stream.dead_letter, frozenset()) | {stream.topic}
        place = Place(settings.kafka.bootstrap_servers, {**QUIET, **settings.kafka.client_properties()}, inputs)
    there = topic_facts(place.bootstrap_servers, place.properties, place.topics, REACH_TIMEOUT_S)
    if missing := [name for name in place.topics if name not in there]:
        raise UsageError(f"{place.bootstrap_servers} has no topic '{missing[0]}', or this user may not see it")
    return place


@dataclass(frozen=True, slots=True)
class Reading:
    """A stretch of dead-letter topics, the same however often it is read."""

    place: Place
    ranges: tuple[Range, ...]

    @property
    def offsets(self) -> int:
        """Offsets to read: as many as records, or somewhat more."""
        return sum(map(len, self.ranges))

    @property
    def expired(self) -> int:
        return sum(one.expired for one in self.ranges)

    def letters(self, advance: Advance) -> Iterator[DeadLetter]:
        """Read them; `advance` is told of each. Partition after partition, so that the first N are always the same."""
        for one in self.ranges:
            if not len(one):
                continue
            reader = RangeReader(
                bootstrap_servers=self.place.bootstrap_servers,
                properties=self.place.properties,
                ranges=[one],
                fetch_memory_mb=FETCH_MEMORY_MB,
                patience_s=PATIENCE_S,
            )
            try:
                while not reader.done:
                    for record in reader.poll(POLL_RECORDS, POLL_S):
                        advance(1)
                        yield open_letter(record)
            finally:
                reader.close()


def find_reading(place: Place, *, since: Bound, positions: Collection[Position] = ()) -> Reading:
    """What is there now, from `since` on. Positions narrow it, when all are of these dead-letter topics."""
    narrow = bool(positions) and all(position.topic in place.topics for position in positions)
    topics = sorted({position.topic for position in positions}) if narrow else place.topics
    found = [
        one
        for topic in topics
        for one in find_ranges(
            place.bootstrap_servers,
            place.properties,
            topic,
            since=since,
            until=Edge.END,
            timeout_s=REACH_TIMEOUT_S,
        )
    ]
    return Reading(place, tuple(_narrowed(found, positions) if narrow else found))


def _narrowed(ranges: Sequence[Range], positions: Collection[Position]) -> Iterator[Range]:
    for one in ranges:
        offsets = [position.offset for position in positions if position.at == one.at]
        if offsets:
            begin, end = max(one.begin, min(offsets)), min(one.end, max(offsets) + 1)
            yield Range(one.at, begin, max(begin, end))


def find_letter(place: Place, position: Position, *, advance: Advance) -> DeadLetter:
    """The dead letter at this position, or the first one of the record at this position.

    Raises UsageError when there is none."""
    if position.topic in place.topics:
        ranges = find_reading(place, since=AtOffset(0), positions=[position]).ranges
        for letter in Reading(place, ranges).letters(advance):
            if letter.at == position:
                return letter
        raise UsageError(f"no dead letter stands at {position}: it has expired, or was never there")
    searched = Place(
        place.bootstrap_servers,
        place.properties,
        {name: place.inputs[name] for name in place.topics_for(position.topic)},
    )
    for letter in find_reading(searched, since=Edge.BEGINNING).letters(advance):
        if letter.source == position:
            return letter
    raise UsageError(f"no dead letter of the record {position} is in {', '.join(searched.topics)}")
