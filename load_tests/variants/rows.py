"""A text and its labels as one row of tokens, each token with a position and the part it belongs to.

Enters: token ids of a text and of labels, CLS and SEP around each. Leaves: Rows. Part 0 is the text, part k the k-th
label from 1 on, its marker included. Must not know: models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NO_PART = -1


@dataclass(frozen=True, slots=True)
class Row:
    """Three lists of one length, and how many labels there are."""

    ids: list[int]
    positions: list[int]
    parts: list[int]
    labels: int


def independent_row(text: Sequence[int], labels: Sequence[Sequence[int]], *, marker: int, label_position: int) -> Row:
    """The text, at most `label_position` tokens of it, then each label from `label_position` on."""
    ids = [*text] if len(text) <= label_position else [*text[: label_position - 1], text[-1]]
    positions, parts = list(range(len(ids))), [0] * len(ids)
    for number, label in enumerate(labels, 1):
        ids += [marker, *label[1:-1]]
        positions += range(label_position, label_position + len(label) - 1)
        parts += [number] * (len(label) - 1)
    return Row(ids, positions, parts, len(labels))


def full_row(
    text: Sequence[int], labels: Sequence[Sequence[int]], *, marker: int, separator: int, positions: int
) -> Row:
    """CLS, the labels, a separator, the text without its CLS: as GLiClass has it. The text is cut to what is left.

    Raises ValueError where labels alone fill the positions.
    """
    ids, parts = [text[0]], [0]
    for number, label in enumerate(labels, 1):
        ids += [marker, *label[1:-1]]
        parts += [number] * (len(label) - 1)
    ids.append(separator)
    parts.append(NO_PART)
    left = positions - len(ids)
    if left < 2:
        raise ValueError(f"{len(labels)} labels leave no room for a text in {positions} positions")
    rest = text[1:] if len(text) - 1 <= left else [*text[1:left], text[-1]]
    ids += rest
    parts += [0] * len(rest)
    return Row(ids, list(range(len(ids))), parts, len(labels))
