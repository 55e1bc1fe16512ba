"""The file that drift is measured against.

Enters: StreamCounts by topic, or the bytes of such a file. Leaves: the other of the two. Must not know: where counts
come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError

from streamer.drift.report import StreamCounts
from streamer.errors import UsageError

MAKE = "make one with `streamer drift baseline`"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Stream(_Part):
    label_set: str
    version: str
    records: float = Field(gt=0)
    counts: dict[str, dict[str, dict[str, NonNegativeFloat]]]  # by aspect, facet ('' for those of texts) and value


class _File(_Part):
    format: Literal["streamer-drift-1"]
    streams: dict[str, _Stream]


def baseline_json(streams: Mapping[str, StreamCounts]) -> bytes:
    """Counts by topic as a file holds them: JSON with a line break at its end."""
    held = {}
    for topic, one in streams.items():
        counts: dict[str, dict[str, dict[str, float]]] = {}
        for (aspect, facet), values in one.counts.items():
            counts.setdefault(aspect, {})[facet] = {value: round(count, 3) for value, count in values.items()}
        held[topic] = _Stream(label_set=one.label_set, version=one.version, records=one.records, counts=counts)
    return _File(format="streamer-drift-1", streams=held).model_dump_json(indent=1).encode() + b"\n"


def parse_baseline(content: bytes, *, origin: str) -> dict[str, StreamCounts]:
    """Counts by topic. Raises UsageError naming `origin` where the content is no baseline."""
    try:
        file = _File.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        what = f"{place}: {first['msg']}" if place else first["msg"]
        raise UsageError(f"{origin}: no drift baseline ({what}); {MAKE}") from None
    return {
        topic: StreamCounts(
            one.label_set,
            one.version,
            one.records,
            {(aspect, facet): values for aspect, facets in one.counts.items() for facet, values in facets.items()},
        )
        for topic, one in file.streams.items()
    }


def read_baseline(path: Path) -> dict[str, StreamCounts]:
    """The counts in a file. Raises UsageError where it cannot be read or is no baseline."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; drift.baseline names it: {MAKE}") from None
    return parse_baseline(content, origin=str(path))
