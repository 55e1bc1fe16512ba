"""Files of rows: read one after the other, written beside and renamed when whole.

Enters: .jsonl (.ndjson), .csv, .parquet or .txt (a text per line). Leaves: rows as columns and as bytes, and .jsonl or
.parquet files. Never more than a part of a file is held in memory. Must not know: labels, models, Kafka.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, AnyStr, BinaryIO, TypeAlias, TypeVar

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from streamer.errors import UsageError
from streamer.records import Reject

JSON_LINES, CSV, PARQUET, LINES = (".jsonl", ".ndjson"), ".csv", ".parquet", ".txt"
READABLE = (*JSON_LINES, CSV, PARQUET, LINES)
WRITABLE = (*JSON_LINES, PARQUET)
TEXT_COLUMN = "text"  # of a file with a text per line
CSV_ENCODING = "utf-8-sig"  # with or without the byte order mark that spreadsheets write
EXTRA = "\0"  # no column's name
READ_ROWS = 1024  # of .parquet at a time
ROW_GROUP_ROWS = 16_384
MOST_LINE_BYTES = 16_000_000  # far more than a record may have; a file without line breaks is no file of rows
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

T = TypeVar("T")
WriteRows: TypeAlias = Callable[[list[dict[str, Any]]], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `value` is its line as it came, or a JSON object of the columns; `reject` says why it is unusable."""

    columns: dict[str, Any]
    value: bytes
    reject: Reject | None = None


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def require_readable(path: Path) -> None:
    """Raise UsageError unless this is a file of a kind that can be read."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.suffix not in READABLE:
        raise UsageError(f"{path}: cannot read '{path.suffix}' files; use {', '.join(READABLE)}")


def read_file(path: Path) -> Iterator[Row]:
    """The rows of a file, in order; blank lines of JSON Lines are none. Raises UsageError for a broken file."""
    require_readable(path)
    if path.suffix in (CSV, PARQUET):
        yield from _table_rows(path)
        return
    with path.open("rb") as file:
        yield from json_rows(file) if path.suffix in JSON_LINES else text_rows(file)


def read_values(path: Path) -> Iterator[bytes]:
    """What a topic is sent for each row: a line of JSON Lines byte for byte, else a JSON object of the columns.

    Raises UsageError for a row that is unusable, and as `read_file` does.
    """
    require_readable(path)
    if path.suffix in JSON_LINES:
        with path.open("rb") as file:
            yield from (line for line in _lines(file) if line.strip())
        return
    for number, row in enumerate(read_file(path), 1):
        if row.reject is not None:
            raise UsageError(f"{path}: row {number}: {row.reject.message}")
        yield orjson.dumps(row.columns) if path.suffix == LINES else row.value


def json_rows(file: BinaryIO) -> Iterator[Row]:
    """A JSON object per line. A line that is none has no columns: whoever decodes it finds out why."""
    for line in _lines(file):
        if line.strip():
            try:
                parsed = json.loads(line)  # keeps whole numbers of any size
            except (ValueError, RecursionError):
                parsed = None
            yield Row(parsed if isinstance(parsed, dict) else {}, line)


def text_rows(file: BinaryIO) -> Iterator[Row]:
    """A text per line, empty ones counted."""
    for line in _lines(file):
        try:
            yield Row({TEXT_COLUMN: line.decode()}, line)
        except UnicodeDecodeError as error:
            yield Row({}, line, Reject("not_utf8", f"byte {error.start} is not UTF-8"))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines without their ends, and without the byte order mark that some editors put first."""
    for number, line in enumerate(_bounded(file)):
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        yield line if number else line.removeprefix(BYTE_ORDER_MARK)


def _bounded(file: IO[AnyStr]) -> Iterator[AnyStr]:
    """Lines with their ends; raises UsageError for one longer than MOST_LINE_BYTES, which in text are characters."""
    number = 0
    while line := file.readline(MOST_LINE_BYTES + 2):
        number += 1
        if len(line) > MOST_LINE_BYTES + 1:
            name = getattr(file, "name", "standard input")
            raise UsageError(f"{name}: line {number} is longer than {MOST_LINE_BYTES // 1_000_000} MB: no file of rows")
        yield line


def _table_rows(path: Path) -> Iterator[Row]:
    with _broken_files_told(path):
        if path.suffix == PARQUET:
            for batch in pq.ParquetFile(path).iter_batches(READ_ROWS):
                yield from (_row(columns, None) for columns in batch.to_pylist())
            return
        with path.open(encoding=CSV_ENCODING, newline="") as file:
            reader: csv.DictReader[str | Any] = csv.DictReader(_bounded(file), restkey=EXTRA)
            for columns in reader:
                extra = columns.pop(EXTRA, None)
                yield _row(columns, Reject("extra_fields", "more fields than the header names") if extra else None)


def _row(columns: dict[str, Any], reject: Reject | None) -> Row:
    return Row(columns, orjson.dumps(columns, default=_plain), reject)


@contextmanager
def _broken_files_told(path: Path) -> Iterator[None]:
    """Whatever the readers of .csv and .parquet raise becomes a UsageError."""
    try:
        yield
    except (ValueError, csv.Error, pa.ArrowException) as error:
        raise UsageError(f"{path}: not a readable {path.suffix} file ({error})") from None


def _plain(value: Any) -> str:
    """What JSON has no form for (decimals, bytes, durations), as text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def count_rows(path: Path) -> int | None:
    """How many rows a file has, or None where only reading all of it would tell."""
    if path.suffix == CSV:
        return None
    if path.suffix == PARQUET:
        with _broken_files_told(path):
            return int(pq.read_metadata(path).num_rows)
    with path.open("rb") as file:
        return sum(1 for line in _bounded(file) if path.suffix == LINES or line.strip())


def read_schema(path: Path) -> pa.Schema:
    """The columns of a file. JSON Lines are read once to learn them; UsageError where a column mixes types."""
    require_readable(path)
    if path.suffix == PARQUET:
        with _broken_files_told(path):
            return pq.read_schema(path).remove_metadata()
    if path.suffix == CSV:
        with _broken_files_told(path), path.open(encoding=CSV_ENCODING, newline="") as file:
            return pa.schema([(name, pa.string()) for name in next(csv.reader(_bounded(file)), [])])
    if path.suffix == LINES:
        return pa.schema([(TEXT_COLUMN, pa.string())])
    schema = pa.schema([])
    with path.open("rb") as file:
        for rows in batched(json_rows(file), ROW_GROUP_ROWS):
            names = dict.fromkeys(name for row in rows for name in row.columns)
            try:
                columns = {name: pa.array([row.columns.get(name) for row in rows]) for name in names}
                found = pa.schema([(name, column.type) for name, column in columns.items()])
                schema = pa.unify_schemas([schema, found], promote_options="permissive")
            except (pa.ArrowException, OverflowError) as error:
                raise UsageError(f"{path}: its columns fit no parquet file ({error}); write .jsonl instead") from None
    return schema


def json_line(row: dict[str, Any]) -> bytes:
    """A row as one line of JSON, its line break included."""
    try:
        return orjson.dumps(row, default=_plain, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # orjson refuses whole numbers beyond 64 bits
        return json.dumps(row, ensure_ascii=False, default=_plain).encode() + b"\n"


@contextmanager
def write_file(path: Path, schema: pa.Schema | None) -> Iterator[WriteRows]:
    """Write rows to a file that is there when the context ends well, and not at all when it ends otherwise.

    `schema` is for .parquet. Raises UsageError where the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        file = partial.open("wb")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        with file, _parquet_rows(file, schema) if path.suffix == PARQUET else _json_lines(file) as write:
            yield write
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _json_lines(file: BinaryIO) -> Iterator[WriteRows]:
    yield lambda rows: file.writelines(map(json_line, rows))


@contextmanager
def _parquet_rows(file: BinaryIO, schema: pa.Schema | None) -> Iterator[WriteRows]:
    """Rows are gathered: a row group per window would make a slow file."""
    waiting: list[dict[str, Any]] = []
    with pq.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            try:
                writer.write_table(pa.Table.from_pylist(waiting, schema=schema))
            except (pa.ArrowException, OverflowError) as error:
                raise UsageError(f"a row fits no parquet file ({error}); write .jsonl instead") from None
            waiting.clear()

        def write(rows: list[dict[str, Any]]) -> None:
            waiting.extend(rows)
            if len(waiting) >= ROW_GROUP_ROWS:
                flush()

        yield write
        flush()
