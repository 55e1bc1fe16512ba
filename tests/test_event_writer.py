"""Events written many at a time say what those written one at a time say, in the same order."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamer.decide import decide_alike
from streamer.encode import Encoder
from streamer.engine.base import ModelInfo
from streamer.facets import Facet, Kind, Label, LabelSet, Route
from streamer.records import Decided, Envelope, FacetColumns, Headers, Outbound, Position, Scores, Stream

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
FACETS = st.lists(
    st.builds(
        lambda name, kind, labels, threshold, min_score, min_margin: Facet(
            name,
            kind,
            tuple(Label(label) for label in labels),
            threshold=threshold,
            min_score=min_score,
            min_margin=min_margin,
        ),
        NAMES,
        st.sampled_from(Kind),
        st.lists(NAMES, min_size=1, max_size=6, unique=True),
        st.sampled_from([0.3, 0.5]),
        st.sampled_from([0.0, 0.6]),
        st.sampled_from([0.0, 0.2]),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda facet: facet.name,
)


def make_stream(topic: str, *, pass_payload: bool, all_scores: bool, keep_timestamp: bool) -> Stream:
    return Stream(
        topic=topic, output="out", dead_letter="dead", label_set="l", text=("/text",), parse_json=True,
        pass_payload=pass_payload, pass_headers=frozenset({"trace"}), all_scores=all_scores,
        keep_timestamp=keep_timestamp, max_value_bytes=1000, weight=1,
    )  # fmt: skip


def make_envelope(topic: str, row: int, headers: Headers, timestamp_ms: int | None) -> Envelope[None]:
    key = b"%d" % row if row % 3 else None
    return Envelope(Position(topic, row % 4, 10**row), 1, key, headers, timestamp_ms, b'{"text":\n "%d"}' % row, None)


@given(
    FACETS,
    st.integers(0, 2**32 - 1),
    st.sampled_from(["in", "a.b_c-d", "100%", 'quote"d']),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), (("trace", b"1"), ("other", None))]),
    st.sampled_from([None, 0, 1700]),
    st.booleans(),
)
def test_a_window_is_written_as_each_record_alone(
    facets: list[Facet],
    seed: int,
    topic: str,
    pass_payload: bool,
    all_scores: bool,
    keep_timestamp: bool,
    headers: Headers,
    timestamp_ms: int | None,
    all_matching: bool,
) -> None:
    chance = np.random.default_rng(seed)
    first = facets[0]
    routes = tuple(Route(first.name, label.name, 0.3, f"to-{at}") for at, label in enumerate(first.labels[:2]))
    label_set = LabelSet("l", tuple(facets), routes=routes, all_matching=all_matching)
    size = sum(len(facet.labels) for facet in facets)
    scores = [
        Scores(chance.uniform(-12, 12, size).astype(np.float32), 5, bool(chance.random() < 0.3)) for _ in range(9)
    ]
    envelopes = [make_envelope(topic, row, headers, timestamp_ms) for row in range(len(scores))]
    stream = make_stream(topic, pass_payload=pass_payload, all_scores=all_scores, keep_timestamp=keep_timestamp)
    encoder = Encoder(model=ModelInfo("bundled", "abc", "cpu", "float32", 512), max_dead_letter_bytes=20)

    decided = decide_alike(label_set, scores)
    plain = [
        encoder.events(stream, envelope.replace(decided.verdict(row)), 1800) for row, envelope in enumerate(envelopes)
    ]
    written = encoder.window(stream, envelopes, decided, 1800)
    assert [list(map(_read, messages)) for messages in written] == [list(map(_read, messages)) for messages in plain]


def _read(message: Outbound) -> tuple[Any, ...]:
    """All of a message; members of its event in their order, numbers as they are read."""
    return message._replace(value=None), json.loads(message.value or b"", object_pairs_hook=list)


def test_every_score_is_written_as_a_json_library_does() -> None:
    facet = Facet("f", Kind.MULTI, (Label("a"),))
    steps = np.arange(10_001)[:, None] / 10_000
    rows = len(steps)
    column = FacetColumns(facet, steps, [()] * rows, [False] * rows)
    decided = Decided(LabelSet("l", (facet,)), (column,), [()] * rows, [False] * rows)
    encoder = Encoder(model=ModelInfo("bundled", "abc", "cpu", "float32", 512), max_dead_letter_bytes=20)
    stream = make_stream("in", pass_payload=False, all_scores=True, keep_timestamp=True)
    envelopes = [make_envelope("in", row % 9, (), None) for row in range(rows)]
    events = encoder.window(stream, envelopes, decided, 1800)
    assert {len((one.value or b"").partition(b'"a":')[2].partition(b"}")[0]) for (one,) in events} == {len("0.0000")}
    found = [orjson.loads(one.value or b"")["facets"]["f"]["scores"]["a"] for (one,) in events]
    assert found == steps[:, 0].tolist()


def test_a_label_set_that_is_reloaded_is_written_by_its_new_names() -> None:
    encoder = Encoder(model=ModelInfo("bundled", "abc", "cpu", "float32", 512), max_dead_letter_bytes=20)
    stream = make_stream("in", pass_payload=False, all_scores=True, keep_timestamp=True)
    envelope = make_envelope("in", 1, (), None)
    seen = []
    for name in ("old", "new", "old"):
        label_set = LabelSet("l", (Facet("f", Kind.SINGLE, (Label(name), Label("other"))),))
        decided = decide_alike(label_set, [Scores(np.array([1, 0], np.float32), 5, False)])
        ((message,),) = encoder.window(stream, [envelope], decided, 1800)
        event = orjson.loads(message.value or b"")
        assert event["label_set"]["version"] == label_set.version
        seen += event["facets"]["f"]["labels"]
    assert seen == ["old", "new", "old"]
