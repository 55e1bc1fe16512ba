"""The vocabulary of the road: what travels from stop to stop.

Position travels, payload changes: every stop takes an Envelope and hands on `envelope.replace(payload)`.
Must not know: Kafka clients, models, settings.

What is made anew for every record is a named tuple: as unchangeable as a frozen dataclass, made in a fifth of the time.
On the road itself it is made by `tuple.__new__`, without the call in between that checks the names: in half of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamer.facets import Facet, LabelSet

P_co = TypeVar("P_co", covariant=True)
Q = TypeVar("Q")

Headers: TypeAlias = tuple[tuple[str, bytes | None], ...]


class Partition(NamedTuple):
    """A partition of an input topic."""

    topic: str
    partition: int


class Position(NamedTuple):
    """Where a record stands in its input topic; unique for all time."""

    topic: str
    partition: int
    offset: int

    @property
    def at(self) -> Partition:
        return Partition(self.topic, self.partition)

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}-{self.offset}"


@dataclass(frozen=True, slots=True)
class Stream:
    """One input topic, and what is done with its records.

    `text` are JSON pointers (RFC 6901) whose strings are joined by a line break; with `parse_json` false the whole
    value is the text. `weight` is the stream's share of a window when several streams have a backlog.
    `pass_payload` puts the input's JSON into the event; `pass_headers` names input headers copied to the output.
    """

    topic: str
    output: str
    dead_letter: str
    label_set: str
    text: tuple[str, ...]
    parse_json: bool
    pass_payload: bool
    pass_headers: frozenset[str]
    all_scores: bool
    keep_timestamp: bool
    max_value_bytes: int
    weight: int


class Document(NamedTuple):
    """Text to label, with the very LabelSet object it is to be labelled by (a reload can never mix versions)."""

    text: str
    label_set: LabelSet


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be labelled. `code` is stable and machine-readable, `message` is for people."""

    code: str
    message: str


class Scores(NamedTuple):
    """The engine's answer for one document.

    `logits`: float32, (labels of all facets,), facets in the order of the label set. `tokens`: text tokens scored.
    """

    logits: NDArray[np.float32]
    tokens: int
    truncated: bool


class FacetVerdict(NamedTuple):
    """Labels given for one facet (none when abstained or, in a multi facet, when none holds), and all scores."""

    name: str
    labels: tuple[str, ...]
    scores: dict[str, float]
    abstained: bool


class Verdict(NamedTuple):
    """What was decided for one document. `routes` are the topics it goes to; none: the stream's own output."""

    facets: tuple[FacetVerdict, ...]
    routes: tuple[str, ...]
    label_set: LabelSet
    truncated: bool


@dataclass(frozen=True, slots=True)
class FacetColumns:
    """What was decided for one facet of many documents. `scores` are float64, (documents, labels of the facet);
    `labels` are those given (none when abstained or, in a multi facet, when none holds)."""

    facet: Facet
    scores: NDArray[np.float64]
    labels: Sequence[tuple[str, ...]]
    abstained: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided for many documents of one label set, column by column; see `Verdict`. On the road nothing is
    made of it for each record but the bytes of its event."""

    label_set: LabelSet
    facets: Sequence[FacetColumns]
    routes: Sequence[tuple[str, ...]]
    truncated: Sequence[bool]

    def verdict(self, row: int) -> Verdict:
        """The same for one of the documents."""
        facets = tuple(
            FacetVerdict(
                one.facet.name,
                one.labels[row],
                dict(zip((label.name for label in one.facet.labels), one.scores[row].tolist(), strict=True)),
                one.abstained[row],
            )
            for one in self.facets
        )
        return Verdict(facets, self.routes[row], self.label_set, self.truncated[row])


class Outbound(NamedTuple):
    """A message to send: `topic` is final, `dead_letter` tells its kind."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None
    dead_letter: bool


class Envelope(NamedTuple, Generic[P_co]):
    """A record on the road.

    `value` is the input as it came; `payload` what the last stop made of it. `epoch` counts assignments and
    rewinds of its partition: work of an old epoch is dropped. `timestamp_ms` is None where the topic has none.
    """

    position: Position
    epoch: int
    key: bytes | None
    headers: Headers
    timestamp_ms: int | None
    value: bytes | None
    payload: P_co

    def replace(self, payload: Q) -> Envelope[Q]:
        """The same record with another payload."""
        return tuple.__new__(Envelope, (*self[:6], payload))
