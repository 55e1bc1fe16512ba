"""Rows of different lengths as one rectangle.

Enters: rows of numbers. Leaves: arrays and masks of them. Must not know: models, what the numbers mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def filled(lengths: Sequence[int], values: NDArray[np.int64], *, fill: int, multiple: int = 1) -> NDArray[np.int64]:
    """Rows of so many values, one after the other -> (rows, longest), the longest rounded up to a multiple."""
    sizes = np.asarray(lengths)
    real = np.arange(-(-sizes.max() // multiple) * multiple) < sizes[:, None]
    out = np.full(real.shape, fill, dtype=np.int64)
    out[real] = values
    return out


def pad_ids(rows: Sequence[Sequence[int]], *, multiple: int = 1) -> NDArray[np.int64]:
    """Token ids -> (rows, longest), -1 for padding; see `filled`."""
    lengths = [len(row) for row in rows]
    ids = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=sum(lengths))
    return filled(lengths, ids, fill=-1, multiple=multiple)


def masked(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Ids with -1 for padding -> ids with 0, and mask (bool, True for a token), both (rows, longest)."""
    return ids.clamp(min=0), ids >= 0


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of token ids -> ids (int64) and mask (bool, True for a token), both (rows, longest)."""
    return masked(torch.from_numpy(pad_ids(rows)))
