"""`streamer classify` on a file: the same rows with their labels.

Enters: a file's rows, or standard input. Leaves: as many rows, each with its labels or with what is wrong with it.
Text is found by the road's own decoder, so a row without text is told by the code it would have as a dead letter.
Must not know: which model it is given, Kafka.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO

import pyarrow as pa
from rich.console import Console

from streamer.app import CPU_WINDOW_RECORDS
from streamer.decode import Decoder
from streamer.engine.base import Classifier
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.offline import label_records
from streamer.records import Document, Envelope, Position, Reject, Verdict
from streamer.settings import StreamSettings
from streamer.settings_errors import near
from streamer.tables import (
    PARQUET,
    TEXT_COLUMN,
    WRITABLE,
    Row,
    WriteRows,
    batched,
    count_rows,
    json_line,
    json_rows,
    read_file,
    read_schema,
    require_readable,
    text_rows,
    write_file,
)
from streamer.terminal import progress_bar

STANDARD = Path("-")
FACETS, TRUNCATED, ERROR = "facets", "truncated", "error"


@dataclass(frozen=True, slots=True)
class FileJob:
    """A file to label, found to be possible. `text` None: a text per line (standard input, .txt).

    `schema`: of a .parquet output, the columns of the input. `total`: rows, where they are known.
    """

    source: Path
    output: Path
    text: tuple[str, ...] | None
    schema: pa.Schema | None
    total: int | None


def plan_file(*, source: Path, output: Path, text: Sequence[str], overwrite: bool) -> FileJob:
    """See that a file can be labelled before a model is loaded for it; `-` is standard input or output.

    `text` are columns or JSON pointers whose strings are joined; none: the column `text`, or on standard input a text
    per line. Raises UsageError for whatever stands in the way, an existing output without `overwrite` included.
    """
    lines = (source == STANDARD and not text) or source.suffix == ".txt"
    if lines and text:
        raise UsageError(f"{source}: every line is a text; a text column is for .jsonl, .csv and .parquet files")
    if source != STANDARD:
        require_readable(source)
    if output != STANDARD:
        _require_writable(source, output, overwrite)
    schema = None
    if output.suffix == PARQUET:
        if source == STANDARD and not lines:
            raise UsageError(f"{output}: the columns of JSON on standard input are unknown; write .jsonl instead")
        schema = pa.schema([(TEXT_COLUMN, pa.string())]) if source == STANDARD else read_schema(source)
    return FileJob(
        source=source,
        output=output,
        text=None if lines else tuple(text) or (TEXT_COLUMN,),
        schema=schema,
        total=None if source == STANDARD else count_rows(source),
    )


def _require_writable(source: Path, output: Path, overwrite: bool) -> None:
    if output.suffix not in WRITABLE:
        raise UsageError(f"{output}: cannot write '{output.suffix}' files; use {', '.join(WRITABLE)}")
    if not output.parent.is_dir():
        raise UsageError(f"{output}: no such folder as {output.parent}; make it first")
    if output.exists():
        if source != STANDARD and output.samefile(source):
            raise UsageError(f"{output}: is the input; name another output")
        if not output.is_file():
            raise UsageError(f"{output}: is there and no file; name another output")
        if not overwrite:
            raise UsageError(f"{output}: is there already; name another output, or give --overwrite")


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows of a file; `rejects` by code."""

    rows: int
    labelled: int
    truncated: int
    rejects: Mapping[str, int]
    wall_s: float


def classify_file(
    job: FileJob,
    *,
    classifier: Classifier,
    label_set: LabelSet,
    stdin: BinaryIO,
    stdout: BinaryIO,
    console: Console,
) -> Counts:
    """One output row per input row, in order: its columns with `facets` and `truncated`, or with `error`.

    `facets` is {name: {labels, scores, abstained}}, as in events, and `error` {code, message}; in .parquet all three
    are columns (facets and scores as structs), null where they do not apply. Input columns of these names are
    replaced. An output file is there when all is done, and not at all when it is interrupted.
    `console` shows progress when it is a terminal; it should be on standard error.
    """
    began = perf_counter()
    rejects: Counter[str] = Counter()
    rows = truncated = 0
    shown = Console(quiet=True) if job.output == STANDARD and stdout.isatty() else console
    try:
        with _writer(job, label_set, stdout) as write, progress_bar(shown, "labelling", job.total) as advance:
            for answered in batched(label_records(classifier, _decoded(job, label_set, stdin)), CPU_WINDOW_RECORDS):
                write([_output_row(row, answer) for row, answer in answered])
                rows += len(answered)
                rejects.update(answer.code for _, answer in answered if isinstance(answer, Reject))
                truncated += sum(isinstance(answer, Verdict) and answer.truncated for _, answer in answered)
                advance(len(answered))
    except KeyboardInterrupt:
        kept = "" if job.output == STANDARD else f"; {job.output} was not written"
        console.print(f"stopped after {rows:,} rows{kept}", markup=False, highlight=False)
        raise
    return Counts(rows, rows - rejects.total(), truncated, dict(rejects), perf_counter() - began)


def _decoded(job: FileJob, label_set: LabelSet, stdin: BinaryIO) -> Iterator[tuple[Row, Document | Reject]]:
    """The rows of the input with what there is to label in them."""
    pointers = [column_pointer(column) for column in job.text or ()]
    stream = StreamSettings(
        topic="offline",
        output="offline",
        dead_letter="offline",
        label_set=label_set.name,
        format="text" if job.text is None else "json",
        text=pointers or ["/text"],
        max_value_bytes=sys.maxsize,
    ).build()
    decoder = Decoder(streams={stream.topic: stream}, label_sets={label_set.name: label_set})
    if job.source == STANDARD:
        rows = text_rows(stdin) if job.text is None else json_rows(stdin)
    else:
        rows = read_file(job.source)
    if job.text is not None:
        first = list(islice(rows, CPU_WINDOW_RECORDS))
        _require_text_columns(job, pointers, first)
        rows = chain(first, rows)
    for row in rows:
        place = Envelope(Position(stream.topic, 0, 0), 0, None, (), None, row.value, None)
        yield row, row.reject or decoder.decode(place)


def column_pointer(column: str) -> str:
    """A column's name as JSON pointer (RFC 6901); a pointer stays one."""
    return column if column.startswith("/") else "/" + column.replace("~", "~0").replace("/", "~1")


def _require_text_columns(job: FileJob, pointers: Sequence[str], rows: Sequence[Row]) -> None:
    """A text column that no row at the file's beginning has is a mistake, not a file of bad rows."""
    columns = list(dict.fromkeys(name for row in rows for name in row.columns))
    wanted = [pointer.split("/")[1].replace("~1", "/").replace("~0", "~") for pointer in pointers]
    if columns and not set(wanted) & set(columns):
        raise UsageError(
            f"{job.source}: no column '{wanted[0]}'{near(wanted[0], columns)}; it has: {', '.join(columns)}; "
            "say which one holds the text with --text"
        )


def _output_row(row: Row, answer: Verdict | Reject) -> dict[str, Any]:
    columns = {name: value for name, value in row.columns.items() if name not in (FACETS, TRUNCATED, ERROR)}
    if isinstance(answer, Reject):
        return {**columns, ERROR: {"code": answer.code, "message": answer.message}}
    facets = {
        facet.name: {
            "labels": facet.labels,
            "scores": facet.scores,
            "abstained": facet.abstained,
        }
        for facet in answer.facets
    }
    return {**columns, FACETS: facets, TRUNCATED: answer.truncated}


def _output_schema(columns: pa.Schema, label_set: LabelSet) -> pa.Schema:
    """The input's columns and the results: the labels of the label set are fields, so every file has them all."""
    facets = [
        (
            facet.name,
            pa.struct(
                [
                    ("labels", pa.list_(pa.string())),
                    ("scores", pa.struct([(label.name, pa.float64()) for label in facet.labels])),
                    ("abstained", pa.bool_()),
                ]
            ),
        )
        for facet in label_set.facets
    ]
    error = pa.struct([("code", pa.string()), ("message", pa.string())])
    kept = [field for field in columns if field.name not in (FACETS, TRUNCATED, ERROR)]
    return pa.schema([*kept, (FACETS, pa.struct(facets)), (TRUNCATED, pa.bool_()), (ERROR, error)])


@contextmanager
def _writer(job: FileJob, label_set: LabelSet, stdout: BinaryIO) -> Iterator[WriteRows]:
    if job.output != STANDARD:
        schema = None if job.schema is None else _output_schema(job.schema, label_set)
        with write_file(job.output, schema) as write:
            yield write
        return

    def write_lines(rows: list[dict[str, Any]]) -> None:
        stdout.writelines(map(json_line, rows))
        stdout.flush()

    yield write_lines
