"""What telemetry tests share: a clock that is moved by hand, streams, and envelopes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

import numpy as np
import pytest

from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Decided, Document, Envelope, FacetColumns, Position, Reject, Stream

MakeReject: TypeAlias = Callable[[str, int, str], Envelope[Reject]]
MakeLabelled: TypeAlias = Callable[..., tuple[list[Envelope[Document]], Decided]]


class FakeClock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def label_set() -> LabelSet:
    sentiment = Facet("sentiment", Kind.SINGLE, (Label("negative"), Label("positive")), min_margin=0.1)
    topic = Facet("topic", Kind.MULTI, (Label("billing", "a question about a bill"), Label("outage")))
    return LabelSet("tickets", (sentiment, topic))


@pytest.fixture
def streams() -> tuple[Stream, ...]:
    def stream(topic: str) -> Stream:
        return Stream(
            topic=topic,
            output=f"{topic}.labeled",
            dead_letter=f"{topic}.dead",
            label_set="tickets",
            text=("/body",),
            parse_json=True,
            pass_payload=True,
            pass_headers=frozenset(),
            all_scores=False,
            keep_timestamp=True,
            max_value_bytes=1 << 20,
            weight=1,
        )

    return stream("tickets.raw"), stream("posts.raw")


@pytest.fixture
def make_reject() -> MakeReject:
    """(topic, offset, code) -> a rejected record whose bytes and message hold the text `private words`."""

    def make(topic: str, offset: int, code: str) -> Envelope[Reject]:
        reject = Reject(code, "cannot parse: private words")
        return Envelope(Position(topic, 0, offset), 0, b"private key", (), None, b"private words", reject)

    return make


@pytest.fixture
def make_labelled(label_set: LabelSet) -> MakeLabelled:
    """(topic, topics given to each record, which of them were truncated) -> what `Observer.labelled` is told: all are
    `positive`, or abstained where no topics are given."""

    def make(
        topic: str, given: Sequence[tuple[str, ...]], truncated: Collection[int] = ()
    ) -> tuple[list[Envelope[Document]], Decided]:
        sentiment, topics = label_set.facets
        scores = np.full((len(given), 2), 0.5)
        moods: list[tuple[str, ...]] = [("positive",) if labels else () for labels in given]
        columns = (
            FacetColumns(sentiment, scores, moods, [not labels for labels in given]),
            FacetColumns(topics, scores, given, [False] * len(given)),
        )
        cut = [row in truncated for row in range(len(given))]
        document = Document("x", label_set)
        envelopes = [Envelope(Position(topic, 0, row), 0, None, (), None, b"{}", document) for row in range(len(given))]
        return envelopes, Decided(label_set, columns, [()] * len(given), cut)

    return make
