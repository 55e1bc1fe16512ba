"""Corrections and the texts they are about, by record, on disk: however many there are, memory stays bounded.

Enters: corrections in the order of reading, texts as they are found, rows of an earlier run. Leaves: rows in the order
of their records, what could not be used, counts. Must not know: Kafka, settings, files.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import orjson

from streamer.errors import FatalError
from streamer.feedback.corrections import Corrected, Labels
from streamer.records import Partition, Position

CACHE_KIB = 65_536
# A row is a record. `labels` is null where they were taken back; `kept` is the text that an earlier run found.
_TABLES = """
CREATE TABLE records (
    topic TEXT, partition INTEGER, offset INTEGER,
    labels TEXT, at_ms INTEGER, by_partition INTEGER, by_offset INTEGER, text TEXT, kept TEXT,
    PRIMARY KEY (topic, partition, offset)
) WITHOUT ROWID;
CREATE TABLE problems (number INTEGER PRIMARY KEY, correction TEXT, about TEXT, code TEXT, message TEXT);
"""
# A row of an earlier run (partition -1) gives way to any correction. Within a partition of the corrections topic the
# later offset counts; between partitions, the later time of writing.
_CORRECT = """
INSERT INTO records (topic, partition, offset, labels, at_ms, by_partition, by_offset) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (topic, partition, offset) DO UPDATE SET
    labels = excluded.labels, at_ms = excluded.at_ms,
    by_partition = excluded.by_partition, by_offset = excluded.by_offset
WHERE CASE WHEN by_partition = -1 THEN true
    WHEN excluded.by_partition = by_partition THEN excluded.by_offset > by_offset
    ELSE (coalesce(excluded.at_ms, 0), excluded.by_partition) >= (coalesce(at_ms, 0), by_partition) END
"""
_EARLIER = """
INSERT OR REPLACE INTO records (topic, partition, offset, labels, at_ms, by_partition, by_offset, kept)
VALUES (?, ?, ?, ?, ?, -1, -1, ?)
"""
_WANTED = """
SELECT offset FROM records WHERE topic = ? AND partition = ? AND offset > ? AND labels IS NOT NULL
ORDER BY offset LIMIT ?
"""
_ROWS = """
SELECT topic, partition, offset, labels, at_ms, coalesce(text, kept) FROM records
WHERE labels IS NOT NULL AND coalesce(text, kept) IS NOT NULL ORDER BY topic, partition, offset
"""
_COUNTS = """
SELECT count(*), sum(labels IS NULL), sum(labels IS NOT NULL AND text IS NOT NULL),
    sum(labels IS NOT NULL AND text IS NULL AND kept IS NOT NULL), sum(by_partition >= 0) FROM records
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """Records: all of them, those whose corrections were taken back, those whose texts were found now, those whose
    texts an earlier run has found alone, and those that a correction read now is about."""

    records: int
    taken_back: int
    joined: int
    kept: int
    corrected: int


@dataclass(frozen=True, slots=True)
class Row:
    """A corrected record with its text; `at_ms` is when the correction was written, where that is known."""

    record: Position
    text: str
    labels: Labels
    at_ms: int | None


@dataclass(frozen=True, slots=True)
class Problem:
    """A correction that could not be used, and why. `correction` is its own position, empty where the correction is
    good and its record is not; `about` is the id of the record, or else what the message holds."""

    correction: str
    about: str
    code: str
    message: str


class Store:
    """To be used as a context. Raises FatalError when the disk of temporary files is full."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # a temporary file that goes away with the connection
        self._database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.executescript(_TABLES)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add_earlier(self, row: Row) -> None:
        """A row of an earlier run; every correction is later than it."""
        with _room():
            self._database.execute(_EARLIER, (*row.record, _json(row.labels), row.at_ms, row.text))

    def correct(self, corrected: Corrected, *, by: Position, at_ms: int | None) -> None:
        """A correction that stands at `by`; of several of one record the last one counts."""
        labels = _json(corrected.labels) if corrected.labels else None
        with _room():
            self._database.execute(_CORRECT, (*corrected.record, labels, at_ms, by.partition, by.offset))

    def partitions(self) -> list[Partition]:
        """Where the records lie whose texts are wanted."""
        query = "SELECT DISTINCT topic, partition FROM records WHERE labels IS NOT NULL ORDER BY 1, 2"
        return [Partition(*row) for row in self._database.execute(query)]

    def wanted(self, at: Partition, after: int, most: int) -> list[int]:
        """Offsets of a partition above `after` whose texts are wanted, the first `most` of them."""
        return [offset for (offset,) in self._database.execute(_WANTED, (*at, after, most))]

    def found(self, texts: Iterable[tuple[Position, str]]) -> None:
        """Texts of records."""
        query = "UPDATE records SET text = ? WHERE topic = ? AND partition = ? AND offset = ?"
        with _room():
            self._database.executemany(query, [(text, *record) for record, text in texts])

    def has_earlier(self, record: Position) -> bool:
        """Whether an earlier run found the text of a record."""
        query = "SELECT kept IS NOT NULL FROM records WHERE topic = ? AND partition = ? AND offset = ?"
        return bool(self._database.execute(query, record).fetchone()[0])

    def problem(self, problem: Problem) -> None:
        """Remember what could not be used."""
        with _room():
            self._database.execute(
                "INSERT INTO problems (correction, about, code, message) VALUES (?, ?, ?, ?)",
                (problem.correction, problem.about, problem.code, problem.message),
            )

    def rows(self) -> Iterator[Row]:
        """Rows that can be written, in the order of their records."""
        for topic, partition, offset, labels, at_ms, text in self._database.execute(_ROWS):
            yield Row(Position(topic, partition, offset), text, orjson.loads(labels), at_ms)

    def problems(self) -> Iterator[Problem]:
        """What could not be used, in the order of finding."""
        for row in self._database.execute("SELECT correction, about, code, message FROM problems ORDER BY number"):
            yield Problem(*row)

    def counts(self) -> Counts:
        """How many records there are of each kind."""
        found = self._database.execute(_COUNTS).fetchone()
        return Counts(*(int(one or 0) for one in found))

    def problem_codes(self) -> Counter[str]:
        """How often each code is among the problems."""
        return Counter(dict(self._database.execute("SELECT code, count(*) FROM problems GROUP BY code")))


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise FatalError(f"feedback needs room for temporary files ({error}); set TMPDIR") from None
