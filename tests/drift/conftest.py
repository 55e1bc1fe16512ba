"""Streams of labelled records for tests of drift."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TypeAlias

from streamer.drift.report import StreamCounts
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.observe import Observer
from streamer.records import Document, Envelope, FacetVerdict, Position, Verdict
from tests.columns import columns_of

Labelled: TypeAlias = tuple[Envelope[Document], Verdict]

MOOD = Facet("mood", Kind.SINGLE, (Label("bad"), Label("good")), min_score=0.6)
TOPIC = Facet("topic", Kind.MULTI, (Label("billing"), Label("outage")))
LABEL_SET = LabelSet("tickets", (MOOD, TOPIC))


def verdict(good: float, *topics: str, label_set: LabelSet = LABEL_SET) -> Verdict:
    """The mood abstains where neither score reaches .6; `topics` are given with .8."""
    best = max(good, 1 - good)
    mood = () if best < 0.6 else ("good" if good > 0.5 else "bad",)
    scores = {name: 0.8 if name in topics else 0.1 for name in ("billing", "outage")}
    facets = (
        FacetVerdict("mood", mood, {"bad": 1 - good, "good": good}, not mood),
        FacetVerdict("topic", topics, scores, False),
    )
    return Verdict(facets, (), label_set, False)


def labelled(topic: str, offset: int, one: Verdict, text: str) -> Labelled:
    return Envelope(Position(topic, 0, offset), 0, None, (), None, b"", Document(text, one.label_set)), one


def tell(observer: Observer, window: Sequence[Labelled]) -> None:
    """As the loop does it: together what is of one topic and label set."""
    for _, some in groupby(window, key=lambda one: (one[0].position.topic, one[1].label_set.version)):
        envelopes, verdicts = zip(*some, strict=True)
        observer.labelled(envelopes, columns_of(verdicts))


def share(counts: StreamCounts, aspect: str, facet: str, value: str) -> float:
    values = counts.counts[aspect, facet]
    return values[value] / sum(values.values())
