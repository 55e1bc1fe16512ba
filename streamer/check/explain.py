"""`streamer check --explain`: what one record would get, stop by stop, without a broker.

Enters: Settings and one record's value. Leaves: an Explanation made by the road's own Decoder, Classifier, decide and
Encoder, as tables or as one line of JSON. Must not know: Kafka clients, which model it is given.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from streamer.app import build_classifier
from streamer.decide import decide, doubts, holds, margins
from streamer.decode import Decoder
from streamer.encode import Encoder
from streamer.engine.base import Classifier, ModelInfo
from streamer.errors import UsageError
from streamer.facets import Facet, Kind, LabelSet, Route
from streamer.records import Document, Envelope, FacetVerdict, Outbound, Position, Reject, Stream, Verdict
from streamer.settings import Settings
from streamer.settings_errors import near

STANDARD = Path("-")
MOST_BYTES = 64 * 1024 * 1024  # far above what a topic takes
WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class ExplainedFacet:
    """A facet, its verdict, how close the decision was, and why it fell so."""

    facet: Facet
    verdict: FacetVerdict
    margin: float
    why: str


@dataclass(frozen=True, slots=True)
class ExplainedRoute:
    """A rule, whether it holds, whether the record goes there by it, and why or why not."""

    route: Route
    holds: bool
    taken: bool
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of a record. `text` is None where none was found; facets and routes are empty for a Reject."""

    stream: Stream
    label_set: LabelSet
    model: ModelInfo
    text: str | None
    outcome: Verdict | Reject
    facets: tuple[ExplainedFacet, ...]
    routes: tuple[ExplainedRoute, ...]
    messages: tuple[Outbound, ...]


def explain_file(settings: Settings, *, source: Path, topic: str | None, stdin: BinaryIO) -> Explanation:
    """Explain the record whose value a file holds as it would stand in the topic; `-` is standard input.

    Raises UsageError for a file that cannot be read, a stream in doubt, and a model that cannot be had.
    """
    stream = _stream(settings, topic)
    value = _read_value(source, stdin)
    label_set = settings.build_label_sets()[stream.label_set]
    classifier = build_classifier(settings.model, max_tokens=settings.batching.max_tokens)
    try:
        classifier.warm_up([label_set])
        return explain_value(
            value,
            stream=stream,
            label_set=label_set,
            classifier=classifier,
            max_dead_letter_bytes=settings.limits.max_dead_letter_bytes,
        )
    finally:
        classifier.close()


def explain_value(
    value: bytes, *, stream: Stream, label_set: LabelSet, classifier: Classifier, max_dead_letter_bytes: int
) -> Explanation:
    """Take one record down the road as far as the sink. Key, headers and timestamp are left empty."""
    envelope = Envelope(Position(stream.topic, 0, 0), 0, None, (), None, value, None)
    decoded = Decoder(streams={stream.topic: stream}, label_sets={stream.label_set: label_set}).decode(envelope)
    outcome = decoded if isinstance(decoded, Reject) else _label(classifier, decoded)
    encoder = Encoder(model=classifier.describe(), max_dead_letter_bytes=max_dead_letter_bytes)
    if isinstance(outcome, Reject):
        messages: tuple[Outbound, ...] = (encoder.dead_letter(stream, envelope.replace(outcome)),)
    else:
        messages = encoder.events(stream, envelope.replace(outcome), time.time_ns() // 1_000_000)
    verdicts = () if isinstance(outcome, Reject) else outcome.facets
    return Explanation(
        stream=stream,
        label_set=label_set,
        model=classifier.describe(),
        text=None if isinstance(decoded, Reject) else decoded.text,
        outcome=outcome,
        facets=tuple(_facet(facet, one) for facet, one in zip(label_set.facets, verdicts, strict=False)),
        routes=_routes(label_set, verdicts) if verdicts else (),
        messages=messages,
    )


def _label(classifier: Classifier, document: Document) -> Verdict | Reject:
    pending = classifier.submit([document])
    result = None
    while result is None:
        result = pending.wait(WAIT_S)
    (answer,) = result.scores
    return answer if isinstance(answer, Reject) else decide([document], [answer])[0]


def _facet(facet: Facet, verdict: FacetVerdict) -> ExplainedFacet:
    scores = np.array([list(verdict.scores.values())], dtype=np.float64)  # (1, labels)
    margin = float(margins(facet, scores)[0])
    low, close = (bool(doubt[0]) for doubt in doubts(facet, scores))
    if verdict.abstained:
        best = f"its best score {less(float(scores.max()), facet.min_score, 'min_score')}" if low else ""
        near_ = f"its margin {less(margin, facet.min_margin, 'min_margin')}" if close else ""
        why = f"abstained: {' and '.join(filter(None, (best, near_)))}"
    elif facet.kind is Kind.SINGLE:
        why = "the best score holds"
    elif verdict.labels:
        why = f"scores from threshold {facet.threshold:g} on hold"
    else:
        why = f"no score reaches threshold {facet.threshold:g}"
    return ExplainedFacet(facet, verdict, margin, why)


def _routes(label_set: LabelSet, verdicts: Sequence[FacetVerdict]) -> tuple[ExplainedRoute, ...]:
    facets = {facet.name: facet for facet in label_set.facets}
    given = {verdict.name: verdict for verdict in verdicts}
    out: list[ExplainedRoute] = []
    for route in label_set.routes:
        verdict = given[route.facet]
        held = holds(route, verdict)
        before = next((i for i, one in enumerate(out) if one.holds), None)
        taken = held and (label_set.all_matching or before is None)
        if not held:
            why = _why_not(route, facets[route.facet], verdict)
        elif taken:
            why = _why(route, verdict)
        else:
            why = f"it holds, but route {before} was first"
        out.append(ExplainedRoute(route, held, taken, why))
    return tuple(out)


def _why(route: Route, verdict: FacetVerdict) -> str:
    if route.label is None:
        return f"facet '{route.facet}' abstained"
    return f"'{route.label}' was given, with score {verdict.scores[route.label]:.3f}"


def _why_not(route: Route, facet: Facet, verdict: FacetVerdict) -> str:
    if route.label is None:
        return f"facet '{facet.name}' did not abstain"
    score = verdict.scores[route.label]
    if verdict.abstained:
        return f"facet '{facet.name}' abstained"
    if score < route.score:
        return f"score {less(score, route.score)}"
    if facet.kind is Kind.SINGLE:
        return f"'{verdict.labels[0]}' was given, with score {verdict.scores[verdict.labels[0]]:.3f}"
    return f"score {less(score, facet.threshold, 'threshold')}"


def less(low: float, high: float, of_what: str = "") -> str:
    """'0.41 < 0.6', with as many digits as tell them apart; `of_what` names the higher one."""
    digits = next((n for n in range(2, 9) if f"{low:.{n}f}" != f"{high:.{n}f}"), 9)
    return f"{low:.{digits}f} < {of_what} {high:g}".replace("  ", " ")


def _stream(settings: Settings, topic: str | None) -> Stream:
    streams = {stream.topic: stream for stream in settings.build_streams()}
    known = ", ".join(streams)
    if topic is None:
        if len(streams) > 1:
            raise UsageError(f"the settings have several streams ({known}); say which one's record it is with --topic")
        return next(iter(streams.values()))
    if topic not in streams:
        raise UsageError(f"--topic {topic}: no stream reads it{near(topic, streams)}; the settings have: {known}")
    return streams[topic]


def _read_value(source: Path, stdin: BinaryIO) -> bytes:
    try:
        with nullcontext(stdin) if source == STANDARD else source.open("rb") as file:
            value = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror}; --explain takes a file that holds one record's value") from None
    if len(value) > MOST_BYTES:
        raise UsageError(f"{source}: larger than {MOST_BYTES:,} bytes; --explain takes one record's value")
    return value
