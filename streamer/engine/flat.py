"""Batches without padding: the tokens of all sequences in one flat list.

Enters: lengths of sequences, and how many label queries follow each. Leaves: what an encoder needs to know of the
batch (`FlatBatch`), and what looks across the tokens of a sequence (`FlatKernels`: attention and means). Everything
else sees the flat list (tokens, hidden). Here are the kernels for a CPU: attention goes by runs of sequences that are
equally long, so nothing is padded or masked there either. Those for CUDA are in `varlen.py`.

Must not know: models, tokenizers, label sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamer.engine.linear import padded_rows

# the kernel behind scaled_dot_product_attention on a CPU; called by its name it also returns the log-sum-exp
_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


@dataclass(frozen=True, slots=True)
class Run:
    """Adjacent sequences of `tokens` tokens and `queries` queries each, and where the first one's begin."""

    sequences: int
    tokens: int
    queries: int
    first_token: int
    first_query: int

    def of_tokens(self, flat: Tensor) -> Tensor:
        """All tokens (tokens, ...) -> (sequences, tokens, ...), a view."""
        part = flat[self.first_token : self.first_token + self.sequences * self.tokens]
        return part.view(self.sequences, self.tokens, *flat.shape[1:])

    def of_queries(self, flat: Tensor) -> Tensor:
        """All queries (queries, ...) -> (sequences, queries, ...), a view."""
        part = flat[self.first_query : self.first_query + self.sequences * self.queries]
        return part.view(self.sequences, self.queries, *flat.shape[1:])


@dataclass(frozen=True, slots=True)
class FlatBatch:
    """All tokens of all sequences, then all queries of all sequences, both in the order of the sequences.

    `longest` and `most_queries` are bounds for any one sequence. token_bounds and query_bounds (sequences + 1,) int32
    say where those of each sequence begin, and where the last one's end (elsewhere called cu_seqlens).
    """

    runs: tuple[Run, ...]
    tokens: int
    queries: int
    longest: int
    most_queries: int
    token_bounds: Tensor
    query_bounds: Tensor

    def with_bounds(self, token_bounds: Tensor, query_bounds: Tensor) -> FlatBatch:
        """The same batch, its bounds on another device."""
        return replace(self, token_bounds=token_bounds, query_bounds=query_bounds)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tokens whose last states somebody reads: in the last layer the others are keys and values, no more.

    Their `index` in the flat list and their `positions` in their sequences, both (wanted,), in the order of the
    sequences; `batch` counts them as its queries.
    """

    index: Tensor
    positions: Tensor
    batch: FlatBatch


class FlatKernels(Protocol):
    """What a device has for flat batches."""

    def attend(self, qkv: Tensor, batch: FlatBatch, heads: int, *, reach: int | None = None) -> Tensor:
        """Tokens attend to the tokens of their sequence; a query to those tokens and to itself.

        qkv: (tokens + queries, 3 * hidden), query, key and value side by side. Returns (tokens + queries, hidden).
        Rows behind those, which `in_usual_size` may have put there, mean nothing and are as many in the answer.
        Tokens more than `reach` apart do not see each other (None: all do).
        """

    def attend_from(
        self, query: Tensor, key_value: Tensor, wanted: Wanted, heads: int, *, reach: int | None = None
    ) -> Tensor:
        """As `attend`, from the wanted tokens only.

        query (wanted, hidden), key_value (tokens, 2 * hidden). Returns (wanted, hidden).
        """

    def in_usual_size(self, rows: Tensor) -> Tensor:
        """(rows, ...) -> (rows or more, ...): zeros behind, where the device does better with few sizes."""

    def means(self, states: Tensor, batch: FlatBatch) -> Tensor:
        """Mean of each sequence's tokens: (tokens + queries, hidden) -> (sequences, hidden), float32."""

    def fused(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A function of tensors, element by element, in as few journeys through memory as the device can make it."""


# of a device, number format and width of a head; None: batches have to be padded
ChooseKernels: TypeAlias = Callable[[torch.device, torch.dtype, int], FlatKernels | None]


def flat_batch(lengths: Sequence[int], queries: Sequence[int]) -> FlatBatch:
    """Sequences of so many tokens and label queries. Equal neighbours share a run: sorted input makes the fewest."""
    runs = []
    token = query = 0
    for (length, count), group in groupby(zip(lengths, queries, strict=True)):
        run = Run(sum(1 for _ in group), length, count, token, query)
        token += run.sequences * length
        query += run.sequences * count
        runs.append(run)
    return FlatBatch(
        runs=tuple(runs),
        tokens=token,
        queries=query,
        longest=max(run.tokens for run in runs),
        most_queries=max(run.queries for run in runs),
        token_bounds=_bounds(lengths),
        query_bounds=_bounds(queries),
    )


def _bounds(sizes: Sequence[int]) -> Tensor:
    bounds = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=bounds[1:])
    return torch.from_numpy(bounds)


def flat_ids(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Token ids of all rows, the position of each in its row, both (tokens,), and where each row starts, (rows,)."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    starts = lengths.cumsum() - lengths
    ids = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    return ids, np.arange(len(ids)) - starts.repeat(lengths), starts


class RunKernels:
    """FlatKernels of a CPU. Attention computes in float32 whatever comes and goes: at the lengths of posts and tickets
    the kernel is a sixth slower in bfloat16, and coarser. Numbers are converted run by run: so they are still in the
    cache when the kernel reads them."""

    def attend(self, qkv: Tensor, batch: FlatBatch, heads: int, *, reach: int | None = None) -> Tensor:
        out = qkv.new_empty(qkv.shape[0], qkv.shape[1] // 3)
        out[batch.tokens + batch.queries :] = 0
        tokens, queries = qkv[: batch.tokens], qkv[batch.tokens :]
        of_tokens, of_queries = out[: batch.tokens], out[batch.tokens :]
        for run in batch.runs:
            query, key, value = _heads(run.of_tokens(tokens).float(), 3, heads)
            mask = None if reach is None else _near(torch.arange(run.tokens), run.tokens, reach)
            mixed, _ = _attention(query, key, value, attn_mask=mask)
            run.of_tokens(of_tokens).copy_(mixed.transpose(1, 2).flatten(2))
            if run.queries:
                query, own_key, own_value = _heads(run.of_queries(queries).float(), 3, heads)
                mixed = _query_attention(query, own_key, own_value, key, value)
                run.of_queries(of_queries).copy_(mixed.transpose(1, 2).flatten(2))
        return out

    def attend_from(
        self, query: Tensor, key_value: Tensor, wanted: Wanted, heads: int, *, reach: int | None = None
    ) -> Tensor:
        out = torch.empty_like(query)
        out[wanted.batch.queries :] = 0
        for run in wanted.batch.runs:
            if not run.queries:  # the kernel divides by their number
                continue
            (asked,) = _heads(run.of_queries(query).float(), 1, heads)
            key, value = _heads(run.of_tokens(key_value).float(), 2, heads)
            mask = None
            if reach is not None:
                mask = _near(run.of_queries(wanted.positions).unsqueeze(1), run.tokens, reach)
            mixed, _ = _attention(asked, key, value, attn_mask=mask)
            run.of_queries(out).copy_(mixed.transpose(1, 2).flatten(2))
        return out

    def in_usual_size(self, rows: Tensor) -> Tensor:
        return padded_rows(rows)

    def means(self, states: Tensor, batch: FlatBatch) -> Tensor:
        return torch.cat([run.of_tokens(states).mean(1, dtype=torch.float32) for run in batch.runs])

    def fused(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return function


def _query_attention(query: Tensor, own_key: Tensor, own_value: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """All (sequences, heads, queries or tokens, head_dim); returns the shape of `query`.

    The merge of two attentions: over the tokens, and over the one score of the query's own key. Where l is the
    logarithm of the first one's sum of exponentials, the own value weighs exp(s) / (exp(l) + exp(s)).
    """
    mixed, log_sum = _attention(query, key, value)
    own = (query * own_key).sum(-1) * query.shape[-1] ** -0.5  # (sequences, heads, queries)
    weight = (own - log_sum).sigmoid_().unsqueeze(-1)
    return torch.lerp(mixed, own_value, weight)


def _near(positions: Tensor, tokens: int, reach: int) -> Tensor | None:
    """What to add to scores: (..., positions, tokens), 0 within reach and minus infinity beyond; None where all are."""
    if tokens - 1 <= reach:
        return None
    far = (positions.unsqueeze(-1) - torch.arange(tokens)).abs() > reach
    return torch.zeros(far.shape).masked_fill_(far, float("-inf"))


def _heads(flat: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(sequences, tokens, parts * hidden) -> views (sequences, heads, tokens, head_dim), one a part."""
    return flat.view(*flat.shape[:2], parts, heads, -1).permute(2, 0, 3, 1, 4).unbind()
