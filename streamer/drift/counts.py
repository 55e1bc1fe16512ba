"""Counts of a stream's labels, scores, abstentions, text lengths and languages, of which old ones fade.

Enters: verdicts with the heads of their texts. Leaves: StreamCounts. Must not know: where they come from, baselines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamer.drift.language import HEAD_CHARACTERS, LANGUAGES, language_of
from streamer.drift.report import Aspect, StreamCounts
from streamer.facets import Facet, Kind, LabelSet
from streamer.records import FacetVerdict, Verdict

Weights: TypeAlias = NDArray[np.float64]

NO_LABEL = "(none)"  # of a multi facet: nothing holds, without doubt
ABSTAINED = ("no", "yes")
SCORE_BINS = 10
SCORES = tuple(f"{low / SCORE_BINS:.1f}" for low in range(SCORE_BINS))  # lower edges; the last holds 1.0 too
LENGTHS = tuple(str(low) for low in (0, *(16 * 2**i for i in range(9))))  # characters: 0-15, 16-31, ... 4096 and more
_LENGTH_EDGES = np.array([int(low) for low in LENGTHS[1:]])
_PLACE_OF_LANGUAGE = {language: place for place, language in enumerate(LANGUAGES)}


class Sample(NamedTuple):
    """A record to count: its verdict, the head of its text, and how many characters the whole has."""

    verdict: Verdict
    head: str
    characters: int


def sample_of(verdict: Verdict, text: str) -> Sample:
    """What is kept of a record until it is counted."""
    return Sample(verdict, text[:HEAD_CHARACTERS], len(text))


class StreamTally:
    """Counts samples by one label set. Every further sample makes those before it weigh `decay` times as much:
    1 keeps all, 1 - 1 / n remembers about the last n."""

    def __init__(self, label_set: LabelSet, *, decay: float) -> None:
        self._label_set = label_set
        self._decay = decay
        self._records = 0.0
        self._names: dict[Aspect, tuple[str, ...]] = {}
        for facet in label_set.facets:
            given = tuple(label.name for label in facet.labels)
            self._names["labels", facet.name] = given if facet.kind is Kind.SINGLE else (*given, NO_LABEL)
            self._names["scores", facet.name] = SCORES
            if facet.min_score or facet.min_margin:
                self._names["abstained", facet.name] = ABSTAINED
        self._names["length", ""] = LENGTHS
        self._names["language", ""] = LANGUAGES
        self._counts: dict[Aspect, Weights] = {key: np.zeros(len(names)) for key, names in self._names.items()}

    @property
    def version(self) -> str:
        """The label set's."""
        return self._label_set.version

    def add(self, samples: Sequence[Sample]) -> None:
        """Count samples whose verdicts are by this label set, the oldest first."""
        weights = self._decay ** np.arange(len(samples) - 1, -1, -1, dtype=np.float64)
        self._fade(self._decay ** len(samples))
        self._records += float(weights.sum())
        for index, facet in enumerate(self._label_set.facets):
            self._add_facet(facet, [sample.verdict.facets[index] for sample in samples], weights)
        characters = np.array([sample.characters for sample in samples])
        self._add(("length", ""), np.searchsorted(_LENGTH_EDGES, characters, side="right"), weights)
        languages = [_PLACE_OF_LANGUAGE[language_of(sample.head)] for sample in samples]
        self._add(("language", ""), np.array(languages), weights)

    def _fade(self, by: float) -> None:
        self._records *= by
        for counts in self._counts.values():
            counts *= by

    def _add_facet(self, facet: Facet, verdicts: Sequence[FacetVerdict], weights: Weights) -> None:
        names = self._names["labels", facet.name]
        place_of = {name: place for place, name in enumerate(names)}
        rows: list[int] = []
        places: list[int] = []
        for row, verdict in enumerate(verdicts):
            given = verdict.labels or (() if verdict.abstained else (NO_LABEL,))
            places += [place_of[label] for label in given]
            rows += [row] * len(given)
        self._add(("labels", facet.name), np.array(places, dtype=np.intp), weights[np.array(rows, dtype=np.intp)])
        best = np.array([max(verdict.scores.values()) for verdict in verdicts])
        self._add(("scores", facet.name), np.minimum((best * SCORE_BINS).astype(np.intp), SCORE_BINS - 1), weights)
        if ("abstained", facet.name) in self._counts:
            abstained = np.array([verdict.abstained for verdict in verdicts], dtype=np.intp)
            self._add(("abstained", facet.name), abstained, weights)

    def _add(self, key: Aspect, places: NDArray[np.intp], weights: Weights) -> None:
        counts = self._counts[key]
        counts += np.bincount(places, weights=weights, minlength=len(counts))

    def counts(self) -> StreamCounts:
        """What was counted so far; it shares nothing with this."""
        counts = {
            key: dict(zip(self._names[key], values.tolist(), strict=True)) for key, values in self._counts.items()
        }
        return StreamCounts(self._label_set.name, self._label_set.version, self._records, counts)
