"""The events of two sides, joined by the id of their record, and counted.

Enters: labelled events as bytes, in any order and of any number. Leaves: a Report. Events wait in a temporary database
on disk, so that memory stays bounded. Must not know: Kafka, models, where the events came from.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, TypeAlias

import orjson

from streamer.errors import FatalError
from streamer.replay.report import FacetChange, Labels, Move, Report, RouteMove, SideFacts

Side: TypeAlias = Literal["old", "new"]

TOP = 20  # the most frequent changes that are told one by one
CACHE_KIB = 65_536
# an event with more than this was not made by this program
MOST_FACETS, MOST_LABELS = 64, 4096

_TABLE = """
CREATE TABLE {side} (
    partition INTEGER, offset INTEGER, at_ms INTEGER, version TEXT, model TEXT, routes TEXT, facets TEXT,
    PRIMARY KEY (partition, offset)
) WITHOUT ROWID
"""
# the last classification of a record counts; its events to several routes differ in their route alone
_ADD = """
INSERT INTO {side} VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (partition, offset) DO UPDATE SET
    routes = CASE WHEN excluded.at_ms > at_ms THEN excluded.routes ELSE united(routes, excluded.routes) END,
    at_ms = excluded.at_ms, version = excluded.version, model = excluded.model, facets = excluded.facets
    WHERE excluded.at_ms >= at_ms
"""
_PAIRS = "old JOIN new USING (partition, offset)"
_MOVES = f"""
SELECT a.key, a.value, b.value, count(*) AS records
FROM {_PAIRS}, json_each(old.facets) AS a JOIN json_each(new.facets) AS b ON a.key = b.key
GROUP BY a.key, a.value, b.value ORDER BY records DESC, a.key, a.value, b.value
"""  # noqa: S608 - nothing of it comes from outside
_ROUTES = f"""
SELECT old.routes, new.routes, count(*) AS records FROM {_PAIRS} WHERE old.routes <> new.routes
GROUP BY old.routes, new.routes ORDER BY records DESC, old.routes, new.routes
"""  # noqa: S608
_FACETS = "SELECT a.key, count(*) FROM {pairs}, json_each({side}.facets) AS a GROUP BY a.key"


@dataclass(slots=True)
class _Seen:
    """What of a side is no row."""

    events: int = 0
    foreign: int = 0


@dataclass(slots=True)
class _Counts:
    """A FacetChange that is being counted."""

    compared: int = 0
    unchanged: int = 0
    changed: int = 0
    newly_abstained: int = 0
    no_longer_abstained: int = 0
    moves: list[Move] = field(default_factory=list)

    def add(self, before: Labels, after: Labels, records: int) -> None:
        """To be called in order of frequency: the first moves are kept."""
        self.compared += records
        if before == after:
            self.unchanged += records
            return
        if after is None:
            self.newly_abstained += records
        elif before is None:
            self.no_longer_abstained += records
        else:
            self.changed += records
        if len(self.moves) < TOP:
            self.moves.append(Move(before, after, records))

    def facet(self, name: str, *, held_old: int, held_new: int) -> FacetChange:
        """`held_old`, `held_new`: records whose event has the facet on that side."""
        return FacetChange(
            name=name,
            compared=self.compared,
            unchanged=self.unchanged,
            changed=self.changed,
            newly_abstained=self.newly_abstained,
            no_longer_abstained=self.no_longer_abstained,
            only_old=held_old - self.compared,
            only_new=held_new - self.compared,
            moves=tuple(self.moves),
        )


class Comparison:
    """Collects events of both sides whose records belong to `ranges` (partition -> offsets) of the input topic, then
    counts. To be used as a context.

    Raises FatalError when the disk of temporary files is full.
    """

    def __init__(self, *, topic: str, ranges: Mapping[int, range]) -> None:
        self._topic = topic
        self._ranges = ranges
        self._seen: dict[Side, _Seen] = {"old": _Seen(), "new": _Seen()}
        self._earliest_ms: int | None = None
        self._undated = False
        self._database = sqlite3.connect("")  # a temporary file that goes away with the connection
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.create_function("united", 2, _united, deterministic=True)
        for side in self._seen:
            self._database.execute(_TABLE.format(side=side))

    def __enter__(self) -> Comparison:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    @property
    def earliest_ms(self) -> int | None:
        """When the first of the input records was written whose events were added (Unix ms); None while unknown, or
        when one has no timestamp."""
        return None if self._undated else self._earliest_ms

    def add(self, side: Side, values: Iterable[bytes | None]) -> None:
        """Take in messages. Events of other inputs and of records outside of the ranges are passed over."""
        seen = self._seen[side]
        rows = []
        for value in values:
            event = _event(value)
            if event is None:
                seen.foreign += 1
                continue
            row = self._row(event)
            if row is not None:
                rows.append(row)
        seen.events += len(rows)
        try:
            self._database.executemany(_ADD.format(side=side), rows)
        except sqlite3.Error as error:
            raise FatalError(f"the comparison needs room for temporary files ({error}); set TMPDIR") from None

    def report(self) -> Report:
        """Count what was added so far."""
        try:
            compared = self._number(f"SELECT count(*) FROM {_PAIRS}")  # noqa: S608
            old, new = self._side("old"), self._side("new")
            return Report(
                old=old,
                new=new,
                compared=compared,
                only_old=old.records - compared,
                only_new=new.records - compared,
                rerouted=self._number(f"SELECT count(*) FROM {_PAIRS} WHERE old.routes <> new.routes"),  # noqa: S608
                facets=self._facets(),
                routes=self._route_moves(),
            )
        except sqlite3.Error as error:
            raise FatalError(f"the comparison needs room for temporary files ({error}); set TMPDIR") from None

    def _row(self, event: dict[str, Any]) -> tuple[Any, ...] | None:
        """What is kept of an event; None when its record is not of the ranges."""
        topic, partition, offset = event["at"]
        if topic != self._topic or offset not in self._ranges.get(partition, ()):
            return None
        written_ms = event["written_ms"]
        if written_ms is None:
            self._undated = True
        elif self._earliest_ms is None or written_ms < self._earliest_ms:
            self._earliest_ms = written_ms
        return (
            partition,
            offset,
            event["at_ms"],
            event["version"],
            event["model"],
            orjson.dumps([event["route"]] if event["route"] is not None else []).decode(),
            orjson.dumps(event["facets"]).decode(),
        )

    def _number(self, query: str) -> int:
        return int(self._database.execute(query).fetchone()[0])

    def _side(self, side: Side) -> SideFacts:
        records = self._number(f"SELECT count(*) FROM {side}")  # noqa: S608
        return SideFacts(
            records=records,
            repeated=self._seen[side].events - records,
            foreign=self._seen[side].foreign,
            versions=self._most_frequent(side, "version"),
            models=self._most_frequent(side, "model"),
        )

    def _most_frequent(self, side: Side, column: str) -> dict[str, int]:
        query = f"SELECT {column}, count(*) FROM {side} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {TOP}"  # noqa: S608
        return dict(self._database.execute(query).fetchall())

    def _facets(self) -> tuple[FacetChange, ...]:
        counts: dict[str, _Counts] = {}
        for name, before, after, records in self._database.execute(_MOVES):
            counts.setdefault(name, _Counts()).add(_labels(before), _labels(after), records)
        old, new = (
            dict(self._database.execute(_FACETS.format(pairs=_PAIRS, side=side)).fetchall()) for side in ("old", "new")
        )
        return tuple(
            counts.get(name, _Counts()).facet(name, held_old=old.get(name, 0), held_new=new.get(name, 0))
            for name in sorted({*old, *new})
        )

    def _route_moves(self) -> tuple[RouteMove, ...]:
        rows = self._database.execute(f"{_ROUTES} LIMIT {TOP}")
        return tuple(
            RouteMove(tuple(orjson.loads(before)), tuple(orjson.loads(after)), records)
            for before, after, records in rows
        )


def _labels(text: str | None) -> Labels:
    """As the database gives them: a JSON array, or nothing for a facet that abstained."""
    return None if text is None else tuple(orjson.loads(text))


def _united(routes: str, more: str) -> str:
    return orjson.dumps(sorted({*orjson.loads(routes), *orjson.loads(more)})).decode()


def _event(value: bytes | None) -> dict[str, Any] | None:
    """The parts of a labelled event that are compared; None for a message that is none, whatever it holds."""
    try:
        event = orjson.loads(value or b"")
        topic, partition, offset = event["id"].rsplit("-", 2)
        written_ms, route, at_ms = event["source"]["timestamp_ms"], event["route"], event["classified_at_ms"]
        facets = {_name(name): _facet(facet) for name, facet in event["facets"].items()}
        stamp, model = event["label_set"], event["model"]
        parts = {
            "at": (topic, int(partition), int(offset)),
            "at_ms": at_ms,
            "written_ms": written_ms,
            "version": _text(stamp["version"]),
            "model": f"{_text(model['name'])}@{_text(model['revision'])}",
            "route": None if route is None else _text(route),
            "facets": facets,
        }
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None
    dated = _is_time(at_ms) and (written_ms is None or _is_time(written_ms))
    return parts if dated and len(facets) <= MOST_FACETS else None


def _facet(facet: dict[str, Any]) -> list[str] | None:
    labels = facet["labels"]
    if not isinstance(labels, list) or len(labels) > MOST_LABELS:
        raise TypeError
    given = sorted(map(_text, labels))
    return None if facet["abstained"] is True else given


def _name(name: str) -> str:
    if "\0" in name:  # where the database would cut it, so that two names could become one
        raise ValueError
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _is_time(value: Any) -> bool:
    return type(value) is int and -(1 << 62) < value < 1 << 62
