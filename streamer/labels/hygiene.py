"""Labels that a model reads as the same, seen from its own vectors and from its answers.

Enters: vectors of wordings, scores of texts. Leaves: Remarks. Must not know: models, files, where remarks are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.facets import Facet, Kind
from streamer.labels.wording import Remark, shown, told_by_names
from streamer.terminal import printable

# of the bundled model: 'sport' and 'sports' .95, 'movie' and 'film' .88, 'billing' and 'payment' .59,
# of 150 intents that people told apart the closest pair but one .88
NEAR = 0.88
CLOSE_ODDS = 1.65  # of two labels' shares of a text; then the wording of a label decides which one wins
LEAST_TEXTS = 10  # about a pair of labels, below which chance speaks
MOSTLY = 0.5  # share of such texts, single facet: the two have nearly the same score
ALWAYS = 0.9  # share of such texts, multi facet: both hold
MOST_PAIRS = 8  # of a facet that are told, the worst first
EXAMPLE_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Pair:
    """Two labels of a facet, by index; `texts` are about one of them, on `alike` of these the model cannot tell which.

    `example` is the index of the first of those.
    """

    first: int
    second: int
    texts: int
    alike: int
    example: int

    @property
    def share(self) -> float:
        return self.alike / self.texts


def near_wordings(facet: Facet, vectors: NDArray[np.float32]) -> Iterator[Remark]:
    """Labels whose wordings are nearly one to the model; vectors (labels, hidden) are unit vectors of the wordings."""
    alike = np.triu(vectors @ vectors.T, k=1)  # (labels, labels)
    places = zip(*(found.tolist() for found in np.nonzero(alike >= NEAR)), strict=True)
    pairs = [(float(alike[i, j]), facet.labels[i].name, facet.labels[j].name) for i, j in places]
    new = sorted((pair for pair in pairs if not told_by_names(*pair[1:])), reverse=True)
    for likeness, *names in new[:MOST_PAIRS]:
        what = f"{shown(names)} mean nearly the same to the model (likeness {likeness:.2f} of 1)"
        yield Remark(what, "keep one of them, or say in descriptions what parts them")
    yield from _rest(len(new))


def indistinct_labels(facet: Facet, scores: NDArray[np.float64], texts: Sequence[str]) -> Iterator[Remark]:
    """Labels that the model cannot tell apart on these texts.

    scores (texts, labels) are those of events: shares of one (single), or each between 0 and 1 (multi).
    """
    single = facet.kind is Kind.SINGLE
    pairs = close_pairs(scores) if single else joint_pairs(scores, facet.threshold)
    for pair in pairs[:MOST_PAIRS]:
        names = [facet.labels[pair.first].name, facet.labels[pair.second].name]
        about = f"{shown(names)}: of {pair.texts:,} texts that are given one of them, {pair.alike:,} "
        seen = "have nearly the same score for both" if single else "are given both"
        example = printable(" ".join(texts[pair.example].split()), EXAMPLE_CHARACTERS)
        yield Remark(f"{about}{seen}, as '{example}'", "keep one of them, or say in descriptions what parts them")
    yield from _rest(len(pairs))


def close_pairs(scores: NDArray[np.float64]) -> list[Pair]:
    """Pairs of a single facet where mostly neither is clearly better, on texts that one of them wins; worst first."""
    best = scores.argmax(axis=1)
    wins = np.bincount(best, minlength=scores.shape[1])
    at_best = scores[np.arange(len(scores)), best]
    close = scores * CLOSE_ODDS >= at_best[:, None]
    close[np.arange(len(scores)), best] = False
    seen: dict[tuple[int, int], tuple[int, int]] = {}  # how often, and the first text
    for text, other in zip(*(found.tolist() for found in np.nonzero(close)), strict=True):
        labels = (min(int(best[text]), other), max(int(best[text]), other))
        count, example = seen.get(labels, (0, text))
        seen[labels] = (count + 1, example)
    pairs = [Pair(i, j, int(wins[i] + wins[j]), alike, text) for (i, j), (alike, text) in seen.items()]
    return _worst_first(pair for pair in pairs if pair.texts >= LEAST_TEXTS and pair.share >= MOSTLY)


def joint_pairs(scores: NDArray[np.float64], threshold: float) -> list[Pair]:
    """Pairs of a multi facet that nearly always hold together, where one of them holds; worst first."""
    holds = scores >= threshold
    held = holds.sum(axis=0)
    both = holds.T.astype(np.int64) @ holds  # (labels, labels)
    either = held[:, None] + held[None, :] - both
    wanted = np.triu((either >= LEAST_TEXTS) & (both >= ALWAYS * either), k=1)
    return _worst_first(
        Pair(int(i), int(j), int(either[i, j]), int(both[i, j]), int(np.nonzero(holds[:, i] & holds[:, j])[0][0]))
        for i, j in zip(*np.nonzero(wanted), strict=True)
    )


def _worst_first(pairs: Iterable[Pair]) -> list[Pair]:
    return sorted(pairs, key=lambda pair: (-pair.share, -pair.texts))


def _rest(pairs: int) -> Iterator[Remark]:
    if pairs > MOST_PAIRS:
        yield Remark(f"{pairs - MOST_PAIRS} more such pairs of labels", "mend these first, and check again")
