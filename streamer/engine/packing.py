"""Rows into device batches of about equal length, so that little of a batch is padding.

Enters: what each row costs. Leaves: batches of row indices. Must not know: texts, labels, devices.
"""

from __future__ import annotations

from collections.abc import Sequence


def pack(costs: Sequence[int], *, max_tokens: int, batch_cost_tokens: int) -> list[list[int]]:
    """Group rows, longest first, under a budget that counts padding.

    `costs` are tokens per row. Rows x longest row of a batch stays within `max_tokens`; a row above it goes alone.
    A batch is closed once its padding exceeds `batch_cost_tokens`, the tokens whose work takes as long as starting
    one more batch. Returns batches of indices into `costs`, each index exactly once, equal input in equal batches.
    """
    batches: list[list[int]] = []
    longest = padding = 0
    for row in sorted(range(len(costs)), key=costs.__getitem__, reverse=True):
        padding += longest - costs[row]
        if batches and (len(batches[-1]) + 1) * longest <= max_tokens and padding <= batch_cost_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
            longest, padding = costs[row], 0
    return batches


def padded_tokens(costs: Sequence[int], batch: Sequence[int]) -> int:
    """Tokens a batch of `pack` occupies, padding counted."""
    return len(batch) * max(costs[row] for row in batch)
