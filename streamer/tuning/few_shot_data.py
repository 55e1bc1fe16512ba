"""From labelled records to what a model is trained on, and which of it is kept back.

Enters: a label set and LabelledRecords, or a file whose own labels make the label set. Leaves: `Examples`.
Must not know: models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import UsageError
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.tuning.data import read_rows
from streamer.tuning.labelled import LABELS_COLUMN, SEPARATOR, SPLIT_COLUMN, LabelledRecords

LABELS_FACET = "labels"


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts, which labels are right, and of which labels that is known: bool (texts, labels of all facets)."""

    texts: tuple[str, ...]
    right: NDArray[np.bool_]
    known: NDArray[np.bool_]

    @staticmethod
    def none(labels: int) -> Examples:
        """No texts, asked for so many labels."""
        empty = np.zeros((0, labels), dtype=np.bool_)
        return Examples((), empty, empty)

    def take(self, rows: Sequence[int]) -> Examples:
        """Those of these rows, in their order."""
        index = np.asarray(rows, dtype=np.int64)
        return Examples(tuple(self.texts[row] for row in rows), self.right[index], self.known[index])

    def with_more(self, other: Examples) -> Examples:
        right, known = np.concatenate([self.right, other.right]), np.concatenate([self.known, other.known])
        return Examples(self.texts + other.texts, right, known)


def examples_of(label_set: LabelSet, records: LabelledRecords) -> Examples:
    """Records of which at least one facet is known."""
    parts = [(facet, records.right[facet.name]) for facet in label_set.facets]
    right = np.array(
        [
            [label.name in (labels[row] or ()) for facet, labels in parts for label in facet.labels]
            for row in range(len(records.texts))
        ],
        dtype=np.bool_,
    )
    known = np.array(
        [
            [labels[row] is not None for facet, labels in parts for _ in facet.labels]
            for row in range(len(records.texts))
        ],
        dtype=np.bool_,
    )
    return Examples(records.texts, right, known).take(np.flatnonzero(known.any(axis=1)).tolist())


def hold_out(examples: Examples, share: float, *, seed: int) -> tuple[Examples, Examples]:
    """Two parts, the second with about `share` of the texts of each combination of right labels, the first with at
    least one of each."""
    groups: dict[bytes, list[int]] = {}
    for row in range(len(examples.texts)):
        groups.setdefault(examples.right[row].tobytes(), []).append(row)
    random = Random(seed)
    kept_back: list[int] = []
    for rows in groups.values():
        random.shuffle(rows)
        kept_back += rows[: min(round(share * len(rows)), len(rows) - 1)]
    back = set(kept_back)
    return examples.take([row for row in range(len(examples.texts)) if row not in back]), examples.take(sorted(back))


def label_set_of_file(path: Path, *, name: str, split: str | None) -> LabelSet:
    """The labels that occur in a file's column `labels`, as one facet: single where each row has exactly one.

    Raises UsageError where there are fewer than two.
    """
    found: set[str] = set()
    single = True
    for number, row in enumerate(read_rows(path), 1):
        if split is not None and str(row.get(SPLIT_COLUMN)) != split:
            continue
        names = _names(f"{path}: row {number}", row.get(LABELS_COLUMN))
        if names is None:
            continue
        found |= set(names)
        single &= len(names) == 1
    if len(found) < 2:
        raise UsageError(
            f"{path}: the column '{LABELS_COLUMN}' names {len(found)} labels; at least two are needed, or a label set "
            "of a settings file (-c and --label-set)"
        )
    kind = Kind.SINGLE if single else Kind.MULTI
    return LabelSet(name, (Facet(LABELS_FACET, kind, tuple(Label(one) for one in sorted(found))),))


def _names(where: str, value: Any) -> list[str] | None:
    """Names as `labelled.py` reads them where no label set says which there are; None: unknown."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            value = json.loads(value)
        except ValueError:
            raise UsageError(f"{where}: '{LABELS_COLUMN}' begins as a list and is none") from None
    if isinstance(value, str):
        value = [name.strip() for name in value.split(SEPARATOR) if name.strip()] or None
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
        raise UsageError(
            f"{where}: '{LABELS_COLUMN}' holds neither a name nor a list of names; labels of several facets need the "
            "label set of a settings file (-c and --label-set)"
        )
    return value
