"""Texts without labels, out of a file, never more of them than were asked for.

Enters: a .jsonl, .csv, .parquet or .txt file, and where its rows have their text. Leaves: a Sample of texts, each as
likely to be in it as any other. Must not know: labels, models.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeAlias

from streamer.decode import Decoder
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.offline_files import column_pointer
from streamer.records import Envelope, Position, Reject, Stream
from streamer.settings import StreamSettings
from streamer.tables import LINES, TEXT_COLUMN, Row, read_file
from streamer.terminal import Advance

MOST_CHARACTERS = 4_000  # kept of a text: far more than is read of it

FindText: TypeAlias = Callable[[Row], str | Reject]


@dataclass(frozen=True, slots=True)
class Sample:
    """`texts` in the order of the file; `rows` it had, of which `without_text` had none."""

    texts: tuple[str, ...]
    rows: int
    without_text: int


def sample_texts(path: Path, find_text: FindText, *, most: int, seed: int, advance: Advance) -> Sample:
    """Read a file once and keep at most `most` texts of it, by reservoir sampling (Vitter's algorithm R).

    `advance` is told of every row. Raises UsageError for a file that is broken or has no text at all.
    """
    random = Random(seed)
    kept: list[tuple[int, str]] = []
    rows = texts = 0
    first_reject: Reject | None = None
    for rows, row in enumerate(read_file(path), 1):  # noqa: B007 - the last number is the count
        advance(1)
        found = row.reject or find_text(row)
        if isinstance(found, Reject):
            first_reject = first_reject or found
            continue
        texts += 1
        if len(kept) < most:
            kept.append((texts, found[:MOST_CHARACTERS]))
        elif (place := random.randrange(texts)) < most:
            kept[place] = (texts, found[:MOST_CHARACTERS])
    if not kept:
        why = f"no row has a text ({first_reject.message})" if first_reject else "it is empty"
        raise UsageError(f"{path}: {why}; say which column holds the text, or give a .txt file with a text per line")
    return Sample(tuple(text for _, text in sorted(kept)), rows, rows - texts)


def texts_in_columns(path: Path, columns: Sequence[str]) -> FindText:
    """Texts in columns or under JSON pointers, joined by line breaks; none: the column `text`. Every line of a .txt
    file is a text. Raises UsageError for columns of a .txt file."""
    if path.suffix == LINES:
        if columns:
            raise UsageError(f"{path}: every line is a text; a text column is for .jsonl, .csv and .parquet files")
        return _line
    pointers = [column_pointer(column) for column in columns] or [f"/{TEXT_COLUMN}"]
    stream = StreamSettings(
        topic="offline",
        output="offline",
        dead_letter="offline",
        label_set="offline",
        text=pointers,
        max_value_bytes=sys.maxsize,
    )
    return texts_of_stream(path, stream.build())


def texts_of_stream(path: Path, stream: Stream) -> FindText:
    """Texts as a stream's settings find them in its records; else, in the column `text`, or in the lines of .txt."""
    if path.suffix == LINES:
        return _line
    decoder = Decoder(streams={stream.topic: stream}, label_sets={stream.label_set: LabelSet(stream.label_set, ())})

    def find(row: Row) -> str | Reject:
        record = Envelope(Position(stream.topic, 0, 0), 0, None, (), None, row.value, None)
        decoded = decoder.decode(record)
        if isinstance(decoded, Reject):
            plain = row.columns.get(TEXT_COLUMN)
            return plain if isinstance(plain, str) and plain.strip() else decoded
        return decoded.text

    return find


def _line(row: Row) -> str | Reject:
    text = str(row.columns.get(TEXT_COLUMN, ""))
    return text if text.strip() else Reject("empty_text", "the text is empty")
