"""Labelled events of one stream and one label set, many at a time.

Enters: Envelopes and what was decided of them, by column. Leaves: the bytes of their events, which say what a JSON
library makes of `Encoder.events`, member by member; only scores are written in full, 0.5000 for 0.5. So all scores of a
facet take as many bytes in each event, and those of a whole window are put between the names of their labels at once,
in one array. Of the rest most is the same in all events: it is written once, or once for each partition or combination
of labels. No object is made for a facet or a score. Must not know: models, routes, Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from streamer.decide import SCORE_DIGITS
from streamer.facets import Facet, LabelSet
from streamer.records import Decided, Envelope, FacetColumns

SCHEMA_VERSION = 1
_STEPS = 10**SCORE_DIGITS
_MOST_KEPT = 4096  # of a multi facet's combinations of labels


class EventWriter:
    """Writes events with all scores. `after` are the members between `route` and `truncated`: the same in every
    event."""

    def __init__(self, *, topic: str, label_set: LabelSet, after: Mapping[str, Any]) -> None:
        self.label_set = label_set
        self._heads = _Heads(topic)
        first = b'},"facets":{'
        self._facets = [_FacetWriter(facet, b"," if at else first) for at, facet in enumerate(label_set.facets)]
        self._after = b"," + orjson.dumps(after)[1:-1]

    def write(self, envelopes: Sequence[Envelope[object]], decided: Decided, now_ms: int) -> list[bytes]:
        """An event for each; `decided` is of this very label set. It shows the first of several routes."""
        columns: list[Sequence[bytes]] = [self._beginnings(envelopes)]
        for one, writer in zip(decided.facets, self._facets, strict=True):
            columns += writer.columns(one)
        columns.append([b'},"route":%b' % (orjson.dumps(to[0]) if to else b"null") for to in decided.routes])
        whole, cut = (
            b'%b,"truncated":%b,"classified_at_ms":%d}' % (self._after, shown, now_ms) for shown in (b"false", b"true")
        )
        columns.append([cut if truncated else whole for truncated in decided.truncated])
        return list(map(b"".join, zip(*columns, strict=True)))

    def _beginnings(self, envelopes: Sequence[Envelope[object]]) -> list[bytes]:
        beginnings = []
        for (_, partition, offset), _, _, _, timestamp_ms, _, _ in envelopes:
            before, between, after = self._heads[partition]
            shown = "null" if timestamp_ms is None else timestamp_ms
            beginnings.append(f"{before}{offset}{between}{offset}{after}{shown}".encode())
        return beginnings


class _Heads(dict[int, tuple[str, str, str]]):
    """The beginning of an event up to its timestamp, by partition: what stands around its two offsets."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self._topic = orjson.dumps(topic).decode()[1:-1]

    def __missing__(self, partition: int) -> tuple[str, str, str]:
        head = self[partition] = (
            f'{{"schema_version":{SCHEMA_VERSION},"id":"{self._topic}-{partition}-',
            f'","source":{{"topic":"{self._topic}","partition":{partition},"offset":',
            ',"timestamp_ms":',
        )
        return head


class _FacetWriter:
    """Writes one facet; `before` is what stands between it and what comes first."""

    def __init__(self, facet: Facet, before: bytes) -> None:
        self._labels = _LabelsText(before + orjson.dumps(facet.name) + b':{"labels":')
        self._scores = _ScoreTexts([label.name for label in facet.labels])

    def columns(self, one: FacetColumns) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """The facet up to its scores, its scores, and what comes after; each (documents,)."""
        doubts = [b'},"abstained":true}' if doubtful else b'},"abstained":false}' for doubtful in one.abstained]
        return list(map(self._labels.__getitem__, one.labels)), self._scores.of(one.scores), doubts


class _LabelsText(dict[tuple[str, ...], bytes]):
    """`before` and the labels given, made once for each combination."""

    def __init__(self, before: bytes) -> None:
        super().__init__()
        self._before = before

    def __missing__(self, labels: tuple[str, ...]) -> bytes:
        if len(self) >= _MOST_KEPT:
            self.clear()
        text = self[labels] = self._before + orjson.dumps(labels) + b',"scores":{'
        return text


class _ScoreTexts:
    """Names and scores of a facet's labels, for many documents at once."""

    def __init__(self, names: Sequence[str]) -> None:
        texts, blank = [orjson.dumps(name) + b":" for name in names], b"0" * _digits().shape[1]
        self._template = np.frombuffer(b",".join(text + blank for text in texts), np.uint8)
        # where each score stands
        ends = np.cumsum([len(text) + len(blank) + 1 for text in texts]) - 1
        self._places = [slice(end - len(blank), end) for end in ends.tolist()]

    def of(self, scores: NDArray[np.float64]) -> list[bytes]:
        """(documents, labels) -> a text for each document."""
        rows = np.empty((len(scores), len(self._template)), np.uint8)
        rows[:] = self._template
        whole = np.dtype((np.void, _digits().shape[1]))  # a score's characters as one value: copied at once
        digits = _digits().view(whole)[:, 0][np.rint(scores * _STEPS).astype(np.intp)]
        for label, place in enumerate(self._places):
            rows[:, place].view(whole)[:, 0] = digits[:, label]
        texts: list[bytes] = rows.view(f"S{rows.shape[1]}")[:, 0].tolist()
        return texts


@cache
def _digits() -> NDArray[np.uint8]:
    """Characters of 0.0000, 0.0001, ..., 1.0000: (scores, characters)."""
    texts = [f"{step / _STEPS:.{SCORE_DIGITS}f}".encode() for step in range(_STEPS + 1)]
    return np.frombuffer(b"".join(texts), np.uint8).reshape(len(texts), -1)
