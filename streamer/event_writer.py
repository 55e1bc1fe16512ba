"""Labelled events of one stream and one label set, many at a time.

Enters: Envelopes and what was decided of them, by column. Leaves: the bytes of their events, the very ones that a JSON
library makes of `Encoder.events`. Most of an event is the same for all of them: names of labels, versions. So it is
written once, and between its parts go the texts of what differs; a score has few enough digits to keep the text of
each. No object is made for a facet or a score. Must not know: models, routes, Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from streamer.decide import SCORE_DIGITS
from streamer.facets import LabelSet
from streamer.records import Decided, Envelope, FacetColumns

SCHEMA_VERSION = 1
_STEPS = 10**SCORE_DIGITS
_MOST_KEPT = 4096  # of a multi facet's combinations of labels
_END = "\n"  # stands in no JSON of one line


class _LabelsText(dict[tuple[str, ...], str]):
    """JSON of the labels given, made once for each combination."""

    def __missing__(self, labels: tuple[str, ...]) -> str:
        if len(self) >= _MOST_KEPT:
            self.clear()
        text = self[labels] = orjson.dumps(labels).decode()
        return text


class EventWriter:
    """Writes events with all scores. `after` are the members between `route` and `truncated`: the same in every
    event."""

    def __init__(self, *, topic: str, label_set: LabelSet, after: Mapping[str, Any]) -> None:
        self.label_set = label_set
        name = _json(topic)[1:-1].replace("%", "%%")
        self._head = f'{{"schema_version":{SCHEMA_VERSION},"id":"{name}-%d-%d","source":{{"topic":"{name}",'
        self._head += '"partition":%d,"offset":%d,"timestamp_ms":%s},"facets":{'
        self._texts = [_LabelsText() for _ in label_set.facets]
        self._row = self._parts(label_set, orjson.dumps(after).decode()[1:-1])

    @staticmethod
    def _parts(label_set: LabelSet, after: str) -> NDArray[np.object_]:
        """Parts of an event in their order; None is for what differs."""
        row: list[str | None] = [None]
        comma = ""
        for facet in label_set.facets:
            row += [f'{comma}{_json(facet.name)}:{{"labels":', None, ',"scores":{']
            comma = ","
            for at, label in enumerate(facet.labels):
                row += [("," if at else "") + _json(label.name) + ":", None]
            row += ['},"abstained":', None, "}"]
        row += ['},"route":', None, f',{after},"truncated":', None, None]
        return np.array(row, dtype=object)

    def write(self, envelopes: Sequence[Envelope[object]], decided: Decided, now_ms: int) -> list[bytes]:
        """An event for each; `decided` is of this very label set. It shows the first of several routes."""
        cells = np.empty((len(envelopes), len(self._row)), dtype=object)
        cells[:] = self._row
        cells[:, 0] = [self._head_of(envelope) for envelope in envelopes]
        column = 1
        for one, texts in zip(decided.facets, self._texts, strict=True):
            column = _fill(cells, column, one, texts)
        cells[:, column + 1] = [_json(routes[0]) if routes else "null" for routes in decided.routes]
        cells[:, column + 3] = [_json(cut) for cut in decided.truncated]
        cells[:, column + 4] = f',"classified_at_ms":{now_ms}}}{_END}'
        return "".join(cells.reshape(-1).tolist()).encode().split(_END.encode())[:-1]

    def _head_of(self, envelope: Envelope[object]) -> str:
        (_, partition, offset), timestamp_ms = envelope.position, envelope.timestamp_ms
        shown = "null" if timestamp_ms is None else timestamp_ms
        return self._head % (partition, offset, partition, offset, shown)


def _fill(cells: NDArray[np.object_], column: int, one: FacetColumns, texts: _LabelsText) -> int:
    """Put a facet's labels, scores and abstentions into their cells; returns the column behind them."""
    cells[:, column + 1] = list(map(texts.__getitem__, one.labels))
    column += 4
    end = column + 2 * len(one.facet.labels)
    cells[:, column:end:2] = _score_texts()[np.rint(one.scores * _STEPS).astype(np.intp)]
    cells[:, end] = ["true" if doubtful else "false" for doubtful in one.abstained]
    return end + 2


@cache
def _score_texts() -> NDArray[np.object_]:
    """Of 0.0, 0.0001, ..., 1.0."""
    return np.array([_json(step / _STEPS) for step in range(_STEPS + 1)], dtype=object)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
