"""Labelled text for training and evaluation.

Enters: parquet, jsonl or csv files with the columns `text` and `labels`, and optionally `dataset` (rows that
share a label list), `split` and `multi`. Leaves: `LabelledSet`s, one per data set.
Must not know: models, tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamer.errors import UsageError
from streamer.tables import read_file


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Texts with the labels that hold; `names` is the whole label list. Labels not named do not hold."""

    dataset: str
    names: tuple[str, ...]
    texts: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    multi: bool


@dataclass(frozen=True, slots=True)
class WrittenText:
    """A text written for training, with its mood on a scale of five and open lists of what it is and is about."""

    text: str
    sentiment: str
    kind: tuple[str, ...]
    topic: tuple[str, ...]


def read_written(path: Path) -> list[WrittenText]:
    """Read texts written for the project (`text`, `sentiment`, `kind`, `topic`); raises UsageError as `read_rows`."""
    texts = []
    for number, row in enumerate(read_rows(path), 1):
        try:
            texts.append(WrittenText(row["text"], row["sentiment"], tuple(row["kind"]), tuple(row["topic"])))
        except KeyError as missing:
            raise UsageError(f"{path}: row {number} lacks the column {missing}") from None
    return texts


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a .jsonl, .csv or .parquet file; raises UsageError for a broken file, and for a row that is none."""
    for number, row in enumerate(read_file(path), 1):
        if row.reject is not None:
            raise UsageError(f"{path}: row {number}: {row.reject.message}")
        if not row.columns:
            raise UsageError(f"{path}: row {number}: a JSON object is needed on every line")
        yield row.columns


def _label_list(value: Any) -> tuple[str, ...]:
    """A list of names, or one string with names between bars (csv)."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split("|")]
    return tuple(str(label) for label in value or () if str(label))


def read_labelled(path: Path, split: str | None) -> list[LabelledSet]:
    """Read a labelled file, one LabelledSet per value of `dataset`, in order of appearance.

    With `split`, only rows of that split count. Raises UsageError where a column is missing or nothing is left.
    """
    grouped: dict[str, list[tuple[str, tuple[str, ...], bool]]] = {}
    for number, row in enumerate(read_rows(path), 1):
        if "text" not in row or "labels" not in row:
            raise UsageError(f"{path}: row {number} lacks the column 'text' or 'labels'")
        if split is not None and row.get("split") != split:
            continue
        labels = _label_list(row["labels"])
        multi = str(row.get("multi", len(labels) != 1)).lower() in ("true", "1")
        grouped.setdefault(str(row.get("dataset") or path.stem), []).append((str(row["text"]), labels, multi))
    if not grouped:
        raise UsageError(f"{path}: no rows" + (f" of split '{split}'" if split else ""))
    return [_build_set(name, rows) for name, rows in grouped.items()]


def _build_set(name: str, rows: list[tuple[str, tuple[str, ...], bool]]) -> LabelledSet:
    names = tuple(sorted({label for _, labels, _ in rows for label in labels}))
    texts, labels, multi = zip(*rows, strict=True)
    return LabelledSet(name, names, texts, labels, any(multi))
