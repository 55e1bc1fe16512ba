"""The state of the process as the live page shows it: one mapping, ready to become JSON.

Enters: a reading of the metrics, and what was seen of single records. Leaves: plain values, bounded in number and
length. Must not know: HTTP, who looks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamer.dlq.codes import explain_code
from streamer.drift.report import StreamDrift
from streamer.engine.base import ModelInfo
from streamer.facets import Facet, LabelSet
from streamer.page.history import LabelKey, Quantiles, label_totals, quantiles
from streamer.page.readings import (
    CACHE_BYTES,
    CACHE_HITS,
    CACHE_MISSES,
    CAPACITY_TOKENS,
    COMMIT_FAILURES,
    COMMITS,
    DEAD_LETTERED,
    LABELLED,
    LAG_RECORDS,
    LAG_S,
    PADDED_TOKENS,
    PAUSED,
    PUBLISHED,
    READ,
    REJECTED,
    RELOAD_FAILURES,
    RELOAD_SUCCESSFUL,
    RELOADED_S,
    RELOADS,
    REWINDS,
    ROUTED,
    TOKENS,
    TRUNCATED,
    WINDOW_DOCUMENTS,
    WINDOWS,
    Reading,
)
from streamer.page.watch import PageObserver, SeenRecord, SeenReject
from streamer.records import FacetVerdict, Stream

MOST_STREAMS, MOST_FACETS, MOST_LABELS = 16, 10, 20
MOST_CODES, MOST_ROUTES, MOST_LABEL_SETS, MOST_DRIFTS = 20, 20, 20, 12
MOST_SHOWN_REJECTS = 8
MOST_GIVEN = 4  # labels of one facet of a single record

_TOTALS = {
    "read": READ,
    "decided": LABELLED,
    "labelled": PUBLISHED,
    "rejected": REJECTED,
    "dead": DEAD_LETTERED,
    "truncated": TRUNCATED,
    "commits": COMMITS,
    "commit_failures": COMMIT_FAILURES,
    "rewinds": REWINDS,
    "windows": WINDOWS,
    "documents": WINDOW_DOCUMENTS,
    "tokens": TOKENS,
    "padded_tokens": PADDED_TOKENS,
    "capacity_tokens": CAPACITY_TOKENS,
}


@dataclass(frozen=True, slots=True)
class Serving:
    """What the loop was started with; `window_records` are the most a window holds."""

    model: ModelInfo
    window_records: int


@dataclass(frozen=True, slots=True)
class Condition:
    """What the process does, in one word (see `condition_of`), and reasons where something is wrong."""

    word: str
    reasons: Sequence[str]


def condition_of(
    alive: Sequence[str], ready: Sequence[str], *, running: bool, paused: Sequence[str], busy: bool
) -> Condition:
    """`alive` and `ready` are reasons against either. Words: stuck, starting, stopping, waiting (for partitions),
    paused, labelling, idle."""
    if alive:
        return Condition("stuck", alive)
    if ready:
        if "stopped" in ready:
            return Condition("stopping", ())
        return Condition("waiting" if running else "starting", ready)
    if paused:
        return Condition("paused", [f"{topic} is paused: more is read than can be finished" for topic in paused])
    return Condition("labelling" if busy else "idle", ())


def state_of(
    reading: Reading,
    seen: PageObserver,
    *,
    condition: Condition,
    serving: Serving | None,
    streams: Sequence[Stream],
    ids: Mapping[LabelKey, int],
    drift: Sequence[StreamDrift] | None,
) -> dict[str, Any]:
    """Everything but records, points and buckets, which clients are sent once each."""
    label_sets = {one.name: one for one in seen.label_sets}
    _, latencies_s = seen.latencies_s()
    return {
        "condition": {"word": condition.word, "reasons": list(condition.reasons)},
        "model": None if serving is None else _model(serving),
        "totals": {name: int(reading.total(metric)) for name, metric in _TOTALS.items()},
        "latency": {"of": len(latencies_s), "quantiles_s": _rounded(quantiles(latencies_s))},
        "cache": _cache(reading),
        "streams": [_stream(one, reading, label_sets, ids) for one in streams[:MOST_STREAMS]],
        "more_streams": max(0, len(streams) - MOST_STREAMS),
        "dead": {
            "codes": _codes(reading),
            "latest": [_reject(one) for one in reversed(seen.rejects()[-MOST_SHOWN_REJECTS:])],
        },
        "routes": _routes(reading),
        "label_sets": [_label_set(one) for one in seen.label_sets[:MOST_LABEL_SETS]],
        "reload": {
            "taken_up": int(reading.total(RELOADS)),
            "failed": int(reading.total(RELOAD_FAILURES)),
            "last_s": reading.total(RELOADED_S),
            "refused": not reading.total(RELOAD_SUCCESSFUL),
            "failure": None if seen.failure is None else {"at_s": seen.failure.at_s, "reason": seen.failure.reason},
        },
        "drift": None if drift is None else _drift(drift),
    }


def record_of(seen: SeenRecord) -> dict[str, Any]:
    """A single record, as it is shown."""
    return {
        "number": seen.number,
        "at_s": seen.at_s,
        "id": str(seen.position),
        "topic": seen.position.topic,
        "text": seen.text,
        "truncated": seen.verdict.truncated,
        "routes": list(seen.verdict.routes[:MOST_GIVEN]),
        "facets": [_verdict(one) for one in seen.verdict.facets[:MOST_FACETS]],
    }


def _verdict(facet: FacetVerdict) -> dict[str, Any]:
    given = sorted(((facet.scores[label], label) for label in facet.labels), reverse=True)[:MOST_GIVEN]
    best = max(facet.scores.items(), key=lambda one: one[1])
    return {
        "name": facet.name,
        "abstained": facet.abstained,
        "labels": [[label, score] for score, label in given],
        "best": list(best),
    }


def _rounded(found: Quantiles | None) -> list[float] | None:
    return None if found is None else [round(max(0.0, one), 4) for one in found]


def _model(serving: Serving) -> dict[str, Any]:
    model = serving.model
    return {
        "name": model.name,
        "revision": model.revision,
        "device": model.device,
        "dtype": model.dtype,
        "window_records": serving.window_records,
    }


def _cache(reading: Reading) -> dict[str, int] | None:
    """None where no score was ever looked for in a cache."""
    hits, misses = int(reading.total(CACHE_HITS)), int(reading.total(CACHE_MISSES))
    if not hits + misses:
        return None
    return {"hits": hits, "misses": misses, "bytes": int(reading.total(CACHE_BYTES))}


def _stream(
    stream: Stream,
    reading: Reading,
    label_sets: Mapping[str, LabelSet],
    ids: Mapping[LabelKey, int],
) -> dict[str, Any]:
    topic = stream.topic
    label_set = label_sets.get(stream.label_set)
    facets: Collection[Facet] = () if label_set is None else label_set.facets[:MOST_FACETS]
    totals = label_totals(reading)
    return {
        "topic": topic,
        "output": stream.output,
        "label_set": stream.label_set,
        "read": int(sum(reading.of_topic(READ, topic))),
        "labelled": int(sum(reading.of_topic(PUBLISHED, topic))),
        "dead": int(sum(reading.of_topic(DEAD_LETTERED, topic))),
        "decided": int(sum(reading.of_topic(LABELLED, topic))),
        "lag_records": int(sum(reading.of_topic(LAG_RECORDS, topic))),
        "lag_s": max(reading.of_topic(LAG_S, topic), default=None),
        "paused": any(reading.of_topic(PAUSED, topic)),
        "facets": [_facet(topic, facet, totals, ids) for facet in facets],
    }


def _facet(topic: str, facet: Facet, totals: Mapping[LabelKey, float], ids: Mapping[LabelKey, int]) -> dict[str, Any]:
    counts = {label.name: int(totals.get((topic, facet.name, label.name), 0)) for label in facet.labels}
    shown = list(counts)
    if len(shown) > MOST_LABELS:  # those given most, in the order of the label set
        often = set(sorted(counts, key=lambda name: -counts[name])[:MOST_LABELS])
        shown = [name for name in shown if name in often]
    return {
        "name": facet.name,
        "kind": str(facet.kind),
        "labels": [{"name": name, "count": counts[name], "id": ids.get((topic, facet.name, name))} for name in shown],
        "others": {"labels": len(counts) - len(shown), "count": sum(counts.values()) - sum(counts[n] for n in shown)},
        "abstained": {
            "count": int(totals.get((topic, facet.name, None), 0)),
            "id": ids.get((topic, facet.name, None)),
        },
    }


def _codes(reading: Reading) -> list[dict[str, Any]]:
    by_code: dict[str, dict[str, int]] = {}
    for (topic, code), count in reading.of(REJECTED).items():
        by_code.setdefault(code, {})[topic] = int(count)
    rows = sorted(by_code.items(), key=lambda one: -sum(one[1].values()))[:MOST_CODES]
    return [
        {
            "code": code,
            "count": sum(topics.values()),
            "topics": _most(topics, MOST_STREAMS),
            "meaning": explain_code(code).meaning,
            "remedy": explain_code(code).remedy,
        }
        for code, topics in rows
    ]


def _routes(reading: Reading) -> list[list[Any]]:
    """Topics that records were sent to, and how many."""
    counts: dict[str, int] = {}
    for (_, to), count in reading.of(ROUTED).items():
        counts[to] = counts.get(to, 0) + int(count)
    return _most(counts, MOST_ROUTES)


def _reject(seen: SeenReject) -> dict[str, Any]:
    return {"at_s": seen.at_s, "id": str(seen.position), "code": seen.code, "message": seen.message}


def _most(counts: Mapping[str, int], most: int) -> list[list[Any]]:
    return [[name, count] for name, count in sorted(counts.items(), key=lambda one: -one[1])[:most]]


def _label_set(label_set: LabelSet) -> dict[str, Any]:
    return {
        "name": label_set.name,
        "version": label_set.version,
        "facets": len(label_set.facets),
        "labels": len(label_set.labels),
        "routes": len(label_set.routes),
        "calibration": None if label_set.calibration is None else label_set.calibration.version,
    }


def _drift(streams: Sequence[StreamDrift]) -> list[dict[str, Any]]:
    """The aspects that are farthest from the baseline."""
    found = [
        (one.distance, stream.topic, one.aspect, one.facet)
        for stream in streams
        for one in stream.aspects
        if one.distance is not None
    ]
    return [
        {"topic": topic, "aspect": aspect, "facet": facet, "distance": round(distance, 4)}
        for distance, topic, aspect, facet in sorted(found, reverse=True)[:MOST_DRIFTS]
    ]
