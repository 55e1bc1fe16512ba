"""Verdict or Reject -> Outbound: the labelled event, or the dead letter.

Enters: Envelopes at the end of the road. Leaves: messages with their final topic, key, headers and bytes. The
formats are described by `events.py`, whose schemas every published message satisfies.
Must not know: models, Kafka clients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from streamer.engine.base import ModelInfo
from streamer.event_writer import SCHEMA_VERSION, EventWriter
from streamer.facets import LabelSet
from streamer.records import Decided, Envelope, Headers, Outbound, Reject, Stream, Verdict

DEAD_LETTER_HEADER = "streamer.dead-letter."
# what a dead letter may repeat of a record beside its value: key and headers, which nothing else bounds
MAX_HEAD_BYTES = 65_536
HEADER_OVERHEAD_BYTES = 10  # two lengths, at most five bytes each


class Encoder:
    """Encodes for one model; `max_dead_letter_bytes` bounds the input value that a dead letter repeats.

    A dead letter repeats at most MAX_HEAD_BYTES more of a record as a whole, key and headers included: one that the
    broker refused for its size would stop the process, and stop it again after every restart.
    """

    def __init__(self, *, model: ModelInfo, max_dead_letter_bytes: int) -> None:
        self._model = {"name": model.name, "revision": model.revision}
        self._max_dead_letter_bytes = max_dead_letter_bytes
        self._writers: dict[str, EventWriter] = {}  # by input topic, for the label set last used

    def window(
        self, stream: Stream, envelopes: Sequence[Envelope[object]], decided: Decided, now_ms: int
    ) -> list[tuple[Outbound, ...]]:
        """What `events` says of each record, for all records of a stream that one label set decided."""
        if not stream.all_scores:
            return [self.events(stream, one.replace(decided.verdict(row)), now_ms) for row, one in enumerate(envelopes)]
        writer = self._writers.get(stream.topic)
        if writer is None or writer.label_set is not decided.label_set:
            after = self._of_all(decided.label_set)
            writer = self._writers[stream.topic] = EventWriter(
                topic=stream.topic, label_set=decided.label_set, after=after
            )
        out = []
        keep = stream.keep_timestamp
        passing = stream.pass_payload and stream.parse_json
        events = writer.write(envelopes, decided, now_ms)
        for row, (envelope, event, routes) in enumerate(zip(envelopes, events, decided.routes, strict=True)):
            if len(routes) > 1:
                out.append(self.events(stream, envelope.replace(decided.verdict(row)), now_ms))
                continue
            _, _, key, headers, timestamp_ms, value, _ = envelope
            if passing and value is not None:
                event = b'%b,"payload":%b}' % (event[:-1], value)
            if headers:
                headers = _passed(stream, headers)
            to = routes[0] if routes else stream.output
            stamp_ms = timestamp_ms if keep else None
            out.append((tuple.__new__(Outbound, (to, key, event, headers, stamp_ms, False)),))
        return out

    def _of_all(self, label_set: LabelSet) -> dict[str, Any]:
        """Members that are the same in all events of a label set, in their order."""
        return {
            "label_set": {"name": label_set.name, "version": label_set.version},
            "model": self._model,
            "calibration": None if label_set.calibration is None else label_set.calibration.version,
        }

    def events(self, stream: Stream, envelope: Envelope[Verdict], now_ms: int) -> tuple[Outbound, ...]:
        """The labelled event of a record, keyed as its input: one for each topic it is routed to, or one for the
        stream's own output. They differ in `route` alone."""
        position, _, key, headers, timestamp_ms, value, (facets, routes, label_set, truncated) = envelope
        topic, partition, offset = position
        event: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "id": str(position),
            "source": {"topic": topic, "partition": partition, "offset": offset, "timestamp_ms": timestamp_ms},
            "facets": {
                name: {
                    "labels": labels,
                    "scores": scores if stream.all_scores else {label: scores[label] for label in labels},
                    "abstained": abstained,
                }
                for name, labels, scores, abstained in facets
            },
            "route": routes[0] if routes else None,
            **self._of_all(label_set),
            "truncated": truncated,
            "classified_at_ms": now_ms,
        }
        if stream.pass_payload and stream.parse_json and value is not None:
            event["payload"] = orjson.Fragment(value)
        if headers:
            headers = _passed(stream, headers)
        if not stream.keep_timestamp:
            timestamp_ms = None
        if len(routes) < 2:
            to = routes[0] if routes else stream.output
            return (Outbound(to, key, orjson.dumps(event), headers, timestamp_ms, dead_letter=False),)
        event["facets"] = orjson.Fragment(orjson.dumps(event["facets"]))  # most of the work: done once for all copies
        return tuple(
            Outbound(to, key, orjson.dumps({**event, "route": to}), headers, timestamp_ms, dead_letter=False)
            for to in routes
        )

    def dead_letter(self, stream: Stream, envelope: Envelope[Reject]) -> Outbound:
        """The input as it came, with the reason in headers; what is too large of it is cut, with its size and hash.

        It is stamped with the time of sending: the input's own time may be what the broker refuses, or so long ago
        that the dead letter would be past its retention at once. The headers tell it.
        """
        position = envelope.position
        key, headers, value, cut = _within(envelope, self._max_dead_letter_bytes)
        added: list[tuple[str, str]] = [
            ("code", envelope.payload.code),
            ("message", envelope.payload.message),
            ("topic", position.topic),
            ("partition", str(position.partition)),
            ("offset", str(position.offset)),
            ("timestamp-ms", "" if envelope.timestamp_ms is None else str(envelope.timestamp_ms)),
            ("label-set", stream.label_set),
            *cut,
        ]
        return Outbound(
            topic=stream.dead_letter,
            key=key,
            value=value,
            headers=(*headers, *((DEAD_LETTER_HEADER + name, text.encode()) for name, text in added)),
            timestamp_ms=None,
            dead_letter=True,
        )


def _passed(stream: Stream, headers: Headers) -> Headers:
    return tuple([header for header in headers if header[0] in stream.pass_headers])


def _within(
    envelope: Envelope[Reject], max_value_bytes: int
) -> tuple[bytes | None, Headers, bytes | None, list[tuple[str, str]]]:
    """Key, headers and value as far as there is room, in this order, and what to tell of what is left out.

    Headers of an earlier dead letter are left out too: they would be taken for this one's.
    """
    room = max_value_bytes + MAX_HEAD_BYTES
    key, key_cut = _cut("key", envelope.key, room)
    room -= len(key or b"")
    ours = [header for header in envelope.headers if not header[0].startswith(DEAD_LETTER_HEADER)]
    kept = []
    for name, content in ours:
        size = len(name.encode()) + len(content or b"") + HEADER_OVERHEAD_BYTES
        if size > room:
            break
        room -= size
        kept.append((name, content))
    left_out = [("headers-left-out", str(len(ours) - len(kept)))] if len(kept) < len(ours) else []
    value, value_cut = _cut("value", envelope.value, min(room, max_value_bytes))
    return key, tuple(kept), value, [*key_cut, *left_out, *value_cut]


def _cut(what: str, content: bytes | None, room: int) -> tuple[bytes | None, list[tuple[str, str]]]:
    """The first `room` bytes, and, where there are more, size and hash of the whole."""
    if content is None or len(content) <= room:
        return content, []
    told = [(f"{what}-bytes", str(len(content))), (f"{what}-sha256", hashlib.sha256(content).hexdigest())]
    return content[:room], told
