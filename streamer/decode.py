"""Bytes -> Document or Reject.

Enters: an Envelope as the source made it. Leaves: the same with a Document, or with a Reject that says why not.
Nothing a record holds may raise here: whatever is wrong with it is a value. Must not know: models, sinks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from streamer.facets import LabelSet
from streamer.records import Document, Envelope, Reject, Stream

MOST_NESTED = 1024  # arrays and objects in each other, that orjson reads


class Decoder:
    """Decodes the records of all streams; `label_sets` by name."""

    def __init__(self, *, streams: Mapping[str, Stream], label_sets: Mapping[str, LabelSet]) -> None:
        self._by_topic = {topic: (stream, _pointers(stream)) for topic, stream in streams.items()}
        self._label_sets = label_sets

    def use(self, label_sets: Mapping[str, LabelSet]) -> None:
        """Label what is decoded from now on by these; Documents already made keep theirs."""
        self._label_sets = label_sets

    def decode(self, envelope: Envelope[Any]) -> Document | Reject:
        """Find the text of a record."""
        stream, pointers = self._by_topic[envelope.position.topic]
        value = envelope.value
        if value is None:
            return Reject("null_value", "the record's value is null")
        if len(value) > stream.max_value_bytes:
            return Reject("value_too_large", f"{len(value)} bytes; the limit is {stream.max_value_bytes}")
        text = _json_text(value, pointers) if stream.parse_json else _plain_text(value)
        if isinstance(text, Reject):
            return text
        if stream.parse_json and stream.pass_payload and _too_deep_to_pass(value):
            return Reject("too_deep", f"nested {MOST_NESTED} deep: pass_payload would put it out of a reader's reach")
        return tuple.__new__(Document, (text, self._label_sets[stream.label_set]))


def _pointers(stream: Stream) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """JSON pointers and their parts (RFC 6901)."""
    return tuple(
        (pointer, tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]))
        for pointer in stream.text
    )


def _plain_text(value: bytes) -> str | Reject:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        return Reject("not_utf8", f"byte {error.start} is not UTF-8")
    return text if text.strip() else Reject("empty_text", "the text is empty")


def _json_text(value: bytes, pointers: tuple[tuple[str, tuple[str, ...]], ...]) -> str | Reject:
    """Strings under the pointers, joined by line breaks; places that are missing, null or blank are left out."""
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return Reject("not_json", f"not JSON: {error}")
    found = []
    for pointer, parts in pointers:
        here = parsed
        for part in parts:
            here = here.get(part) if isinstance(here, dict) else _item(here, part)
        if here is None:
            continue
        if not isinstance(here, str):
            return Reject("text_not_string", f"{pointer} holds {_kind(here)}, not a string")
        if here and not here.isspace():
            found.append(here)
    if not found:
        places = ", ".join(pointer or "the whole value" for pointer, _ in pointers)
        return Reject("no_text", f"no text at {places}")
    return "\n".join(found) if len(found) > 1 else found[0]


def _too_deep_to_pass(value: bytes) -> bool:
    """Whether JSON that can be read could not be read any more one level deeper, as the payload of an event."""
    if value.count(b"[") + value.count(b"{") < MOST_NESTED:
        return False
    try:
        orjson.loads(b"[" + value + b"]")
    except orjson.JSONDecodeError:
        return True
    return False


def _item(here: Any, part: str) -> Any:
    """What a part of a pointer names in an array; None where there is nothing."""
    if isinstance(here, list) and part.isascii() and part.isdigit() and len(part) < 9 and int(part) < len(here):
        return here[int(part)]
    return None


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case list():
            return "an array"
        case _:
            return "an object"
