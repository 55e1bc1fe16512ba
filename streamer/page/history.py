"""The last five minutes, second by second: rates, lag, latencies, and how often each label was given.

Enters: readings, about once a second. Leaves: points and buckets, bounded, for charts. Must not know: HTTP, records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from streamer.page.readings import (
    ABSTENTIONS,
    DEAD_LETTERED,
    LABELS,
    LAG_RECORDS,
    LAG_S,
    PUBLISHED,
    READ,
    WINDOW_DOCUMENTS,
    WINDOWS,
    Reading,
)

KEPT_POINTS, KEPT_BUCKETS = 300, 60
POINTS_PER_BUCKET = 5
LABELS_PER_BUCKET = 400
# (topic, facet, label); None: abstained
LabelKey: TypeAlias = tuple[str, str, str | None]


class Quantiles(NamedTuple):
    """Of latencies, in seconds."""

    p50_s: float
    p95_s: float
    p99_s: float


class Point(NamedTuple):
    """One second, which ended at `at_s` (Unix seconds). None: nothing happened that could be measured."""

    number: int
    at_s: float
    read_per_s: float
    labelled_per_s: float
    dead_per_s: float
    lag_records: float
    lag_s: float | None
    latency: Quantiles | None
    window_documents: float | None


class Bucket(NamedTuple):
    """What was given during some seconds that ended at `at_s`: (label's id, how often)."""

    number: int
    at_s: float
    counts: tuple[tuple[int, int], ...]


def quantiles(latencies_s: Sequence[float | None]) -> Quantiles | None:
    """By nearest rank; None where there is none to rank."""
    known = sorted(one for one in latencies_s if one is not None)
    if not known:
        return None
    return Quantiles(*(known[min(len(known) - 1, int(share * len(known)))] for share in (0.50, 0.95, 0.99)))


def label_totals(reading: Reading) -> dict[LabelKey, float]:
    """How often each label was given, and each facet abstained."""
    given: dict[LabelKey, float] = {
        (topic, facet, label): count for (topic, facet, label), count in reading.of(LABELS).items()
    }
    return given | {(topic, facet, None): count for (topic, facet), count in reading.of(ABSTENTIONS).items()}


class History:
    """Fed and read on different threads: each ring is appended to, and copied whole."""

    def __init__(self, *, began_s: float) -> None:
        self._points: deque[Point] = deque(maxlen=KEPT_POINTS)
        self._buckets: deque[Bucket] = deque(maxlen=KEPT_BUCKETS)
        self._at_s = began_s  # monotonic
        self._last = Reading({})
        self._counted: Mapping[LabelKey, float] = {}
        self._published = 0
        self._numbers = 0
        self._next_id = 0
        self.ids: Mapping[LabelKey, int] = {}

    def add(
        self, reading: Reading, *, now_s: float, wall_s: float, published: int, latencies_s: Sequence[float | None]
    ) -> None:
        """Another second: `now_s` is monotonic, `wall_s` Unix time. `latencies_s` are the latest of `published`."""
        passed_s = max(now_s - self._at_s, 1e-3)
        new = min(published - self._published, len(latencies_s))
        windows = reading.total(WINDOWS) - self._last.total(WINDOWS)
        documents = reading.total(WINDOW_DOCUMENTS) - self._last.total(WINDOW_DOCUMENTS)
        self._numbers += 1
        self._points.append(
            Point(
                number=self._numbers,
                at_s=wall_s,
                read_per_s=self._rate(reading, READ, passed_s),
                labelled_per_s=self._rate(reading, PUBLISHED, passed_s),
                dead_per_s=self._rate(reading, DEAD_LETTERED, passed_s),
                lag_records=reading.total(LAG_RECORDS),
                lag_s=max(reading.of(LAG_S).values(), default=None),
                latency=quantiles(latencies_s[-new:]) if new > 0 else None,
                window_documents=documents / windows if windows > 0 else None,
            )
        )
        totals = label_totals(reading)
        self.ids = self._ids_of(totals)
        if self._numbers % POINTS_PER_BUCKET == 0:
            self._count_labels(totals, wall_s)
        self._at_s, self._last, self._published = now_s, reading, published

    def _rate(self, reading: Reading, name: str, passed_s: float) -> float:
        return (reading.total(name) - self._last.total(name)) / passed_s

    def _count_labels(self, totals: Mapping[LabelKey, float], wall_s: float) -> None:
        grown = {key: int(value - self._counted.get(key, 0.0)) for key, value in totals.items()}
        counts = sorted(((self.ids[key], count) for key, count in grown.items() if count > 0), key=lambda one: -one[1])
        self._buckets.append(Bucket(self._numbers // POINTS_PER_BUCKET, wall_s, tuple(counts[:LABELS_PER_BUCKET])))
        self._counted = totals

    def _ids_of(self, totals: Mapping[LabelKey, float]) -> dict[LabelKey, int]:
        """Small numbers for what is counted, the same ones as before; what is counted no more has none."""
        ids: dict[LabelKey, int] = {}
        for key in totals:
            known = self.ids.get(key)
            if known is None:
                known, self._next_id = self._next_id, self._next_id + 1
            ids[key] = known
        return ids

    def points(self, *, after: int) -> list[Point]:
        """Points that came after the numbered one, oldest first."""
        return [point for point in list(self._points) if point.number > after]

    def buckets(self, *, after: int) -> list[Bucket]:
        """Buckets that came after the numbered one, oldest first."""
        return [bucket for bucket in list(self._buckets) if bucket.number > after]
