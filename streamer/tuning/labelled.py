"""Labelled records of a user: texts with the labels that people say are right, facet by facet.

Enters: a .jsonl, .csv or .parquet file, and the label set it is about. Leaves: LabelledRecords, or one UsageError line
that names file, row and value. What nobody said of a record stays unknown (None), and is not taken for "none holds".

How labels are written, `;` between names (a name that holds one stands in a list):

- the column `labels`: an object, facet -> name, list of names, or null for unknown (in .csv its JSON);
- or the column `labels`: names or a list of them, where the label set has a single facet;
- or a column for each facet, named as the facet is: names or a list of them; an empty cell is unknown, `[]` says that
  no label of a multi facet holds.

Must not know: models, tokenizers, metrics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from streamer.errors import UsageError
from streamer.facets import Kind, LabelSet
from streamer.settings_errors import near
from streamer.tables import TEXT_COLUMN
from streamer.terminal import printable
from streamer.tuning.data import read_rows

LABELS_COLUMN, ID_COLUMN, SPLIT_COLUMN = "labels", "id", "split"
SEPARATOR = ";"
MOST_RECORDS = 1_000_000
MOST_CHARACTERS = 1_000_000_000  # of all texts together
SHOWN_CHARACTERS = 60  # of somebody else's value in an error line

Right: TypeAlias = frozenset[str] | None


@dataclass(frozen=True, slots=True)
class LabelledRecords:
    """Texts and what is right about them, in the order of the file.

    `right[facet][i]` holds the right labels of text i: none or several where the facet is multi, exactly one where it
    is single, None where they are unknown. Every facet of the label set is a key. `ids` is None for a file without
    the column `id`.
    """

    texts: tuple[str, ...]
    right: Mapping[str, tuple[Right, ...]]
    ids: tuple[str, ...] | None


def read_labelled_records(
    path: Path,
    label_set: LabelSet,
    *,
    text: Sequence[str] = (TEXT_COLUMN,),
    split: str | None = None,
    most_records: int = MOST_RECORDS,
    most_characters: int = MOST_CHARACTERS,
) -> LabelledRecords:
    """Read a labelled file by the names of a label set.

    `text` names columns, or JSON pointers into them, whose strings are joined by line breaks; with `split` only rows
    whose column `split` says so count. Raises UsageError for a broken file, a name that the label set lacks, a row
    without text, no row at all, no label at all, and for more than the bounds.
    """
    texts: list[str] = []
    ids: list[str] = []
    right: dict[str, list[Right]] = {facet.name: [] for facet in label_set.facets}
    characters = 0
    for number, row in enumerate(read_rows(path), 1):
        where = f"{path}: row {number}"
        if not texts:
            _require_columns(where, row, label_set, text, split)
        if split is not None and str(row.get(SPLIT_COLUMN)) != split:
            continue
        found = _text(where, row, text)
        characters += len(found)
        if len(texts) == most_records or characters > most_characters:
            raise UsageError(
                f"{where}: the file is larger than {most_records:,} records or {most_characters:,} characters of "
                "text; take a sample"
            )
        texts.append(found)
        ids += [str(row[ID_COLUMN])] if row.get(ID_COLUMN) is not None else []
        for name, labels in _right(where, row, label_set).items():
            right[name].append(labels)
    if not texts:
        raise UsageError(f"{path}: no rows" + (f" of split '{split}'" if split is not None else ""))
    if all(one is None for labels in right.values() for one in labels):
        raise UsageError(f"{path}: no row says which label is right; fill in the column '{LABELS_COLUMN}'")
    return LabelledRecords(
        tuple(texts),
        {name: tuple(labels) for name, labels in right.items()},
        tuple(ids) if len(ids) == len(texts) else None,
    )


def _require_columns(
    where: str, row: dict[str, Any], label_set: LabelSet, text: Sequence[str], split: str | None
) -> None:
    """What no row can do without; told of the first one, so that a wrong file is told as such."""
    has = f"it has: {printable(', '.join(map(str, row)), 4 * SHOWN_CHARACTERS)}"
    columns = [_parts(one)[0] for one in text]
    if not set(columns) & set(row):
        raise UsageError(f"{where}: no column '{columns[0]}'{near(columns[0], row)}; {has}; name the text with --text")
    facets = [facet.name for facet in label_set.facets]
    if LABELS_COLUMN not in row and not set(facets) & set(row):
        raise UsageError(
            f"{where}: no column '{LABELS_COLUMN}', and none named as a facet of '{label_set.name}' "
            f"({', '.join(facets)}); {has}"
        )
    if split is not None and SPLIT_COLUMN not in row:
        raise UsageError(f"{where}: no column '{SPLIT_COLUMN}' to choose '{split}' by; {has}")


def _parts(place: str) -> list[str]:
    """A column's name, or a JSON pointer (RFC 6901) that begins with it, as the keys on the way."""
    if not place.startswith("/"):
        return [place]
    return [part.replace("~1", "/").replace("~0", "~") for part in place.split("/")[1:]]


def _text(where: str, row: dict[str, Any], places: Sequence[str]) -> str:
    found = []
    for place in places:
        here: Any = row
        for part in _parts(place):
            here = here.get(part) if isinstance(here, dict) else None
        if isinstance(here, str) and here.strip():
            # half a surrogate pair, which JSON can hold, is no text to any tokenizer
            found.append(here.encode("utf-8", "replace").decode())
        elif here is not None and not isinstance(here, str):
            raise UsageError(f"{where}: '{place}' holds no text but {_shown(here)}")
    if not found:
        raise UsageError(f"{where}: no text in '{', '.join(places)}'; leave the row out or fill it in")
    return "\n".join(found)


def _right(where: str, row: dict[str, Any], label_set: LabelSet) -> dict[str, Right]:
    """The right labels of one row, by facet; facets it does not speak of are unknown."""
    given = {facet.name: row.get(facet.name) for facet in label_set.facets}
    whole = _parsed(row.get(LABELS_COLUMN))
    if isinstance(whole, dict):
        for name in whole:
            if name not in given:
                raise UsageError(
                    f"{where}: '{LABELS_COLUMN}' names the facet {_shown(name)}, which label set '{label_set.name}' "
                    f"lacks{near(str(name), given)}"
                )
        given |= {LABELS_COLUMN: None} if LABELS_COLUMN in given else {}
        given |= whole
    elif whole not in (None, "") and LABELS_COLUMN not in given:
        if len(label_set.facets) > 1:
            raise UsageError(
                f"{where}: '{LABELS_COLUMN}' is {_shown(whole)}, but label set '{label_set.name}' has "
                f'{len(label_set.facets)} facets; say of which one, e.g. {{"{label_set.facets[0].name}": …}}'
            )
        given[label_set.facets[0].name] = whole
    return {
        facet.name: _names(
            f"{where}: facet '{facet.name}'", given[facet.name], [label.name for label in facet.labels], facet.kind
        )
        for facet in label_set.facets
    }


def _names(where: str, value: Any, known: Sequence[str], kind: Kind) -> Right:
    """One facet's value as written -> its right labels."""
    value = value if value in known else _parsed(value)
    if value is None or value == "":
        return None
    names = value if isinstance(value, list | tuple) else [value]
    if len(names) == 1 and isinstance(names[0], str) and names[0] not in known:
        names = [name.strip() for name in names[0].split(SEPARATOR) if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(
                f"{where}: no label {_shown(name)}{near(str(name), known)}; it has: "
                f"{printable(', '.join(known), 4 * SHOWN_CHARACTERS)}"
            )
    right = frozenset(names)
    if kind is Kind.SINGLE and len(right) != 1:
        raise UsageError(
            f"{where}: {_shown(value)} are {len(right)} labels, and exactly one is right in a single facet; leave it "
            "empty where it is unknown"
        )
    return right


def _parsed(value: Any) -> Any:
    """JSON of a list or an object, as .csv and some .parquet files hold it, as what it says; the rest as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value.strip() if isinstance(value, str) else value


def _shown(value: Any) -> str:
    return f"'{printable(str(value), SHOWN_CHARACTERS)}'"
