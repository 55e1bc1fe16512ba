"""Rows into device batches of about equal length, so that little of a batch is padding.

Enters: what each row costs. Leaves: batches of row indices. Must not know: texts, labels, devices.
"""

from __future__ import annotations

from collections.abc import Sequence


def pack(costs: Sequence[int], *, max_tokens: int, batch_cost_tokens: int | None) -> list[list[int]]:
    """Group rows, longest first, under a budget that counts padding.

    `costs` are tokens per row. A batch of `padded_tokens` stays within `max_tokens`; a row above it goes alone.
    A batch is closed once its padding exceeds `batch_cost_tokens`, the tokens whose work takes as long as starting
    one more batch; None says that rows are not padded at all. Returns batches of indices into `costs`, each index
    exactly once, equal input in equal batches.
    """
    batches: list[list[int]] = []
    longest = real = 0
    for row in sorted(range(len(costs)), key=costs.__getitem__, reverse=True):
        real += costs[row]
        size = real if batch_cost_tokens is None else (len(batches[-1]) + 1) * longest if batches else 0
        if batches and size <= max_tokens and (batch_cost_tokens is None or size - real <= batch_cost_tokens):
            batches[-1].append(row)
        else:
            batches.append([row])
            longest = real = costs[row]
    return batches


def padded_tokens(costs: Sequence[int], batch: Sequence[int], *, batch_cost_tokens: int | None) -> int:
    """Tokens a batch of `pack` occupies, padding counted."""
    if batch_cost_tokens is None:
        return sum(costs[row] for row in batch)
    return len(batch) * max(costs[row] for row in batch)
