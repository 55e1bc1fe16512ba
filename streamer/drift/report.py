"""What is counted of a stream, and how far two such counts are apart.

Enters: counts of now and of a baseline. Leaves: shares and distances. Must not know: records, models, who shows them.

The distance is that of Jensen and Shannon, to the base of two: 0 for equal shares, 1 for shares without a value in
common (Lin 1991, "Divergence measures based on the Shannon entropy"; its square root is a metric). It takes values
that one of the two lacks, which the population stability index does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2, sqrt
from typing import TypeAlias

# (aspect, facet): `labels`, `scores` and `abstained` of a facet, `length` and `language` of texts, without one
Aspect: TypeAlias = tuple[str, str]
Shares: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class StreamCounts:
    """What was counted of a stream's records by one label set: by aspect, how often each value stood. `records` are
    those that were counted; both are weights, where old records weigh less."""

    label_set: str
    version: str
    records: float
    counts: Mapping[Aspect, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class AspectDrift:
    """Shares of one aspect lately, and those of the baseline with the distance in 0..1; None where it has none."""

    aspect: str
    facet: str
    shares: Shares
    baseline: Shares | None
    distance: float | None


@dataclass(frozen=True, slots=True)
class StreamDrift:
    """A stream lately. `baseline_version` is the label set's when the baseline was made, None without one."""

    topic: str
    records: float
    version: str
    baseline_version: str | None
    aspects: tuple[AspectDrift, ...]


def drift_report(now: Mapping[str, StreamCounts], baseline: Mapping[str, StreamCounts]) -> tuple[StreamDrift, ...]:
    """Every stream that something was counted of, by topic, in the order of topics."""
    return tuple(_stream_drift(topic, now[topic], baseline.get(topic)) for topic in sorted(now))


def _stream_drift(topic: str, now: StreamCounts, then: StreamCounts | None) -> StreamDrift:
    aspects = []
    for key, counts in now.counts.items():
        shares = shares_of(counts)
        before = None if then is None else shares_of(then.counts.get(key, {}))
        distance = distance_of(shares, before) if shares and before else None
        aspects.append(AspectDrift(*key, shares, before or None, distance))
    return StreamDrift(topic, now.records, now.version, None if then is None else then.version, tuple(aspects))


def shares_of(counts: Mapping[str, float]) -> Shares:
    """Counts over their sum; nothing where they are all 0."""
    total = sum(counts.values())
    return {value: count / total for value, count in counts.items()} if total > 0 else {}


def distance_of(one: Shares, other: Shares) -> float:
    """Jensen-Shannon distance, 0..1, of two sets of shares that sum to 1 each."""
    divergence = 0.0
    for value in one.keys() | other.keys():
        p, q = one.get(value, 0.0), other.get(value, 0.0)
        middle = (p + q) / 2
        divergence += sum(share / 2 * log2(share / middle) for share in (p, q) if share > 0)
    return sqrt(min(max(divergence, 0.0), 1.0))
