"""The percentile bootstrap (Efron 1979): how much figures would differ on other records like these.

Enters: columns to be summed over records. Leaves: their sums over resamples, and intervals of what is made of them.
Seeded, so the same file gives the same intervals. Must not know: what the columns mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
WEIGHTS_AT_ONCE = 4_000_000  # of resamples times records: 16 MB


def resampled_sums(
    tables: Sequence[NDArray[np.float32]], *, seed: int, resamples: int = RESAMPLES
) -> list[NDArray[np.float64]]:
    """(records, sums) tables over the same records -> (resamples, sums) each, all by the same resamples.

    A resample draws as many records as there are, with replacement. Whole numbers are exact up to 2 ** 24.
    """
    records = len(tables[0])
    random = np.random.default_rng(seed)
    at_once = max(1, WEIGHTS_AT_ONCE // records)
    sums: list[list[NDArray[np.float64]]] = [[] for _ in tables]
    for first in range(0, resamples, at_once):
        count = min(at_once, resamples - first)
        drawn = random.integers(0, records, (count, records))
        drawn += np.arange(count)[:, None] * records
        weights = np.bincount(drawn.ravel(), minlength=count * records).reshape(count, records).astype(np.float32)
        for table, parts in zip(tables, sums, strict=True):
            parts.append((weights @ table).astype(np.float64))
    return [np.concatenate(parts) for parts in sums]


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of values (resamples,), those that are not defined left out; NaN where none is."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
