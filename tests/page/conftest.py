"""What tests of the page share: a clock that is moved by hand, and windows as the loop tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import pytest

from streamer.decide import decide_alike
from streamer.facets import Facet, Kind, Label, LabelSet, Route
from streamer.records import Decided, Document, Envelope, Position, Reject, Scores, Stream

Window: TypeAlias = tuple[list[Envelope[Document]], Decided]
MakeWindow: TypeAlias = Callable[..., Window]


class FakeClock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def label_set() -> LabelSet:
    mood = Facet("mood", Kind.SINGLE, (Label("bad"), Label("good")), min_margin=0.1)
    topic = Facet("topic", Kind.MULTI, (Label("billing"), Label("outage")))
    return LabelSet("tickets", (mood, topic), routes=(Route("topic", "outage", 0.9, "tickets.urgent"),))


@pytest.fixture
def stream() -> Stream:
    return Stream(
        topic="tickets", output="tickets.out", dead_letter="tickets.dead", label_set="tickets", text=("/text",),
        parse_json=True, pass_payload=False, pass_headers=frozenset(), all_scores=True, keep_timestamp=True,
        max_value_bytes=5000, weight=1,
    )  # fmt: skip


@pytest.fixture
def make_window(label_set: LabelSet) -> MakeWindow:
    """(texts, logits of every label) -> what `Observer.labelled` is told of a window of `tickets`."""

    def make(texts: Sequence[str], logits: Sequence[float] = (-2.0, 2.0, 3.0, -3.0)) -> Window:
        envelopes = [
            Envelope(Position("tickets", 0, row), 0, b"a private key", (), None, b"{}", Document(text, label_set))
            for row, text in enumerate(texts)
        ]
        scores = Scores(np.array(logits, dtype=np.float32), 3, truncated=False)
        return envelopes, decide_alike(label_set, [scores] * len(texts))

    return make


@pytest.fixture
def rejected() -> Envelope[Reject]:
    """A dead letter whose message quotes what is private."""
    return Envelope(Position("tickets", 1, 7), 0, b"key", (), None, b"private", Reject("not_json", "not JSON: private"))
