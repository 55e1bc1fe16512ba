"""The demo's records and what they should be labelled as.

Enters: the shipped jsonl files. Leaves: messages to produce, and gold labels by record id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import orjson

TOPICS = {"demo.tickets": "tickets", "demo.posts": "posts"}


@dataclass(frozen=True, slots=True)
class DemoRecord:
    """One message: `value` None is a null value."""

    topic: str
    key: bytes | None
    value: bytes | None


def demo_records() -> list[DemoRecord]:
    """Tickets, posts, and a few records that are wrong on purpose, mixed."""
    good = [
        DemoRecord(topic, orjson.loads(line)["id"].encode(), line)
        for topic, name in TOPICS.items()
        for line in _lines(f"{name}.jsonl")
    ]
    half = len(good) // 2
    mixed = [record for pair in zip(good[:half], good[half:], strict=True) for record in pair]
    # spread the bad ones: they must not stand together at the end, where a reader would miss them
    step = len(mixed) // (len(_bad_records()) + 1)
    for i, bad in enumerate(_bad_records(), 1):
        mixed.insert(i * step, bad)
    return mixed


def _bad_records() -> list[DemoRecord]:
    long_text = "The parcel still has not come, and nobody answers. " * 4000  # about 200 KB: labelled, marked truncated
    return [
        DemoRecord("demo.posts", b"bad-1", b"<post>this is not JSON</post>"),
        DemoRecord("demo.tickets", b"bad-2", orjson.dumps({"id": "bad-2", "priority": "high"})),
        DemoRecord("demo.posts", b"bad-3", None),
        DemoRecord("demo.tickets", b"bad-4", orjson.dumps({"id": "bad-4", "subject": "Parcel", "body": long_text})),
        DemoRecord("demo.posts", b"bad-5", orjson.dumps({"id": "bad-5", "text": 42})),
    ]


def gold_labels() -> Mapping[str, Mapping[str, str]]:
    """Record id -> facet -> the label it should get."""
    out = {}
    for name in TOPICS.values():
        for line in _lines(f"{name}.gold.jsonl"):
            row = orjson.loads(line)
            out[row.pop("id")] = row
    return out


def _lines(name: str) -> list[bytes]:
    return (files("streamer.demo") / name).read_bytes().splitlines()
