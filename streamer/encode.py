"""Verdict or Reject -> Outbound: the labelled event, or the dead letter.

Enters: Envelopes at the end of the road. Leaves: messages with their final topic, key, headers and bytes. The
formats are described by `events.py`, whose schemas every published message satisfies.
Must not know: models, Kafka clients.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from streamer.engine.base import ModelInfo
from streamer.records import Envelope, FacetVerdict, Headers, Outbound, Reject, Stream, Verdict

SCHEMA_VERSION = 1
DEAD_LETTER_HEADER = "streamer.dead-letter."


class Encoder:
    """Encodes for one model; `max_dead_letter_bytes` bounds the input value that a dead letter repeats."""

    def __init__(self, *, model: ModelInfo, max_dead_letter_bytes: int) -> None:
        self._model = {"name": model.name, "revision": model.revision}
        self._max_dead_letter_bytes = max_dead_letter_bytes

    def event(self, stream: Stream, envelope: Envelope[Verdict], now_ms: int) -> Outbound:
        """The labelled event of a record, keyed as its input."""
        verdict = envelope.payload
        position = envelope.position
        event: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "id": str(position),
            "source": {
                "topic": position.topic,
                "partition": position.partition,
                "offset": position.offset,
                "timestamp_ms": envelope.timestamp_ms,
            },
            "facets": {facet.name: _facet(facet, stream.all_scores) for facet in verdict.facets},
            "route": verdict.route,
            "label_set": {"name": verdict.label_set.name, "version": verdict.label_set.version},
            "model": self._model,
            "calibration": None,
            "truncated": verdict.truncated,
            "classified_at_ms": now_ms,
        }
        if stream.pass_payload and stream.parse_json and envelope.value is not None:
            event["payload"] = orjson.Fragment(envelope.value)
        headers = tuple(header for header in envelope.headers if header[0] in stream.pass_headers)
        return Outbound(
            topic=verdict.route or stream.output,
            key=envelope.key,
            value=orjson.dumps(event),
            headers=headers,
            timestamp_ms=envelope.timestamp_ms if stream.keep_timestamp else None,
            dead_letter=False,
        )

    def dead_letter(self, stream: Stream, envelope: Envelope[Reject]) -> Outbound:
        """The input as it came, with the reason in headers; a value too large is cut, with its size and hash."""
        position, value = envelope.position, envelope.value
        added: list[tuple[str, str]] = [
            ("code", envelope.payload.code),
            ("message", envelope.payload.message),
            ("topic", position.topic),
            ("partition", str(position.partition)),
            ("offset", str(position.offset)),
            ("timestamp-ms", "" if envelope.timestamp_ms is None else str(envelope.timestamp_ms)),
            ("label-set", stream.label_set),
        ]
        if value is not None and len(value) > self._max_dead_letter_bytes:
            added += [("value-bytes", str(len(value))), ("value-sha256", hashlib.sha256(value).hexdigest())]
            value = value[: self._max_dead_letter_bytes]
        headers: Headers = tuple((DEAD_LETTER_HEADER + name, text.encode()) for name, text in added)
        return Outbound(
            topic=stream.dead_letter,
            key=envelope.key,
            value=value,
            headers=(*envelope.headers, *headers),
            timestamp_ms=envelope.timestamp_ms if stream.keep_timestamp else None,
            dead_letter=True,
        )


def _facet(facet: FacetVerdict, all_scores: bool) -> dict[str, Any]:
    scores = facet.scores if all_scores else {label: facet.scores[label] for label in facet.labels}
    return {
        "labels": facet.labels,
        "scores": {label: round(score, 4) for label, score in scores.items()},
        "abstained": facet.abstained,
    }
