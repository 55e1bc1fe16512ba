"""A correction taken apart and held to the settings.

Enters: messages of a corrections topic, streams and their label set. Leaves: Corrected, or a Reject that says what is
wrong with it. Nothing a message holds may raise here. Must not know: Kafka clients, where corrections are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from streamer.events import Correction
from streamer.facets import Kind, LabelSet
from streamer.records import Envelope, Position, Reject
from streamer.settings_errors import near
from streamer.terminal import printable

SHOWN_CHARACTERS = 80  # of what a message holds, in a line about it
MOST_BYTES = 65_536  # of a correction; labels of a record need far fewer
POSITION = re.compile(r"([A-Za-z0-9._-]{1,249})-([0-9]{1,9})-([0-9]{1,18})")

Labels = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Corrected:
    """A record and what is right about it; no labels at all: corrections made before are taken back."""

    record: Position
    labels: Labels


class Rules:
    """What corrections of one label set may say; `label_set_of` names the label set of every input topic."""

    def __init__(self, *, label_set: LabelSet, label_set_of: Mapping[str, str]) -> None:
        self._label_set = label_set
        self._label_set_of = label_set_of
        self._facets = {facet.name: facet for facet in label_set.facets}
        self._names = {facet.name: {label.name for label in facet.labels} for facet in label_set.facets}

    def read(self, message: Envelope[None]) -> Corrected | Reject:
        """Take a message apart. A null value whose key is an id takes the record's corrections back."""
        if message.value is None:
            record = position_of((message.key or b"").decode("utf-8", "replace"))
            return Corrected(record, {}) if record else Reject("null_value", "neither a value nor an id as key")
        if len(message.value) > MOST_BYTES:
            return Reject("too_large", f"{len(message.value):,} bytes; a correction has at most {MOST_BYTES:,}")
        try:
            correction = Correction.model_validate_json(message.value)
        except ValidationError as error:
            return Reject("malformed", _first(error))
        record = position_of(correction.id)
        if record is None:
            return Reject("malformed", f"id {_quoted(correction.id)} is no topic-partition-offset")
        corrected = Corrected(record, {name: sorted(set(labels)) for name, labels in correction.labels.items()})
        return self.refusal(corrected) or corrected

    def refusal(self, corrected: Corrected) -> Reject | None:
        """Why this cannot be used with the label set, or None."""
        topic = corrected.record.topic
        if topic not in self._label_set_of:
            return Reject("unknown_topic", f"no stream of the settings reads {_quoted(topic)}")
        if self._label_set_of[topic] != self._label_set.name:
            return Reject("other_label_set", f"{_quoted(topic)} is labelled by '{self._label_set_of[topic]}'")
        for name, labels in corrected.labels.items():
            if name not in self._facets:
                return Reject("unknown_facet", f"no facet {_quoted(name)}{near(name, self._facets)}")
            for label in labels:
                if label not in self._names[name]:
                    known = near(label, self._names[name])
                    return Reject("unknown_label", f"facet '{name}' has no label {_quoted(label)}{known}")
            if self._facets[name].kind is Kind.SINGLE and len(labels) != 1:
                return Reject("not_one_label", f"facet '{name}' is single, and {len(labels)} labels are given")
        return None


def position_of(text: str) -> Position | None:
    """`topic-partition-offset` taken apart; None for anything else."""
    found = POSITION.fullmatch(text)
    return Position(found[1], int(found[2]), int(found[3])) if found else None


def _quoted(text: str) -> str:
    return f"'{printable(text, SHOWN_CHARACTERS)}'"


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(printable(str(part), SHOWN_CHARACTERS) for part in first["loc"])
    return f"{where}: {first['msg']}".removeprefix(": ")
