"""Is one variant better than another? Macro-F1 again on other texts, other sets, other seeds like those there are.

Enters: which labels are right of each text, and which each variant gave, by seed. Leaves: differences with
intervals by the paired bootstrap: both sides always on the same resample. Must not know: models, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.tuning.bootstrap import RESAMPLES, interval, resampled_sums

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean macro-F1 of one variant less that of another.

    `by_seed`: of the two runs that saw the same batches. `texts`: 95 % interval on other texts of the same sets.
    `everything`: on other sets, texts and seeds, as far as these few tell of others.
    """

    by_seed: tuple[float, ...]
    texts: tuple[float, float]
    everything: tuple[float, float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.by_seed))


def resampled_f1(right: Flags, given: Sequence[Flags], *, seed: int) -> tuple[Floats, Floats]:
    """Macro-F1 of one set, over its whole label list, of several answers to the same texts.

    `right` and each of `given` (texts, labels). Returns it on the texts as they are (answers,) and on resamples of
    them (answers, resamples).
    """
    tables = [np.concatenate([right & one, one, right], axis=1).astype(np.float32) for one in given]
    plain = np.stack([_macro_f1(table.sum(axis=0, dtype=np.float64)[None])[0] for table in tables])
    return plain, np.stack([_macro_f1(sums) for sums in resampled_sums(tables, seed=seed)])


def _macro_f1(sums: Floats) -> Floats:
    """(weightings, three times labels) sums -> (weightings,); a label that never occurs counts 0."""
    both, given, right = np.split(sums, 3, axis=1)
    whole = given + right
    return np.asarray(np.divide(2 * both, whole, out=np.zeros_like(both), where=whole > 0).mean(axis=1))


def difference(plain: Floats, resampled: Floats, one: int, other: int, *, seed: int) -> Difference:
    """Variant `one` less variant `other`.

    Shapes: plain (variants, seeds, sets), resampled (variants, seeds, sets, resamples).
    """
    apart = resampled[one] - resampled[other]  # (seeds, sets, resamples)
    seeds, sets, _ = apart.shape
    random = np.random.default_rng(seed)
    drawn_seeds = random.integers(0, seeds, (RESAMPLES, seeds, 1))
    drawn_sets = random.integers(0, sets, (RESAMPLES, 1, sets))
    texts = random.integers(0, RESAMPLES, (RESAMPLES, 1, sets))  # a set drawn twice has other texts each time
    everything = apart[drawn_seeds, drawn_sets, texts].mean(axis=(1, 2))
    by_seed = (plain[one] - plain[other]).mean(axis=1)
    return Difference(tuple(by_seed.tolist()), interval(apart.mean(axis=(0, 1))), interval(everything))
