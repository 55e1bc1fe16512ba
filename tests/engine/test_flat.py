"""Flat batches against one sequence at a time, every mask spelled out; a CPU's kernels and those around CUDA's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamer.engine.flat import FlatBatch, FlatKernels, RunKernels, Wanted, flat_batch, flat_ids
from tests.engine.slow_kernels import slow_varlen

HEADS, WIDTH = 3, 8
HIDDEN = HEADS * WIDTH
KERNELS: list[FlatKernels] = [RunKernels(), slow_varlen()]
SEQUENCES = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4)), min_size=1, max_size=8)


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
    """One sequence: (asking, hidden), (tokens, hidden) twice, allowed (asking, tokens) -> (asking, hidden)."""
    asking, keys, values = (x.reshape(-1, HEADS, WIDTH).transpose(0, 1) for x in (query, key, value))
    scores = asking @ keys.transpose(-1, -2) / WIDTH**0.5
    weights: Tensor = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    return (weights @ values).transpose(0, 1).flatten(1)


def starts_of(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:i]) for i in range(len(sizes))]


def near(positions: Tensor, tokens: int, reach: int | None) -> Tensor:
    distance = (positions[:, None] - torch.arange(tokens)).abs()
    return distance <= (tokens if reach is None else reach)


@given(SEQUENCES)
def test_runs_cover_all_sequences_in_order(sequences: list[tuple[int, int]]) -> None:
    lengths, queries = [n for n, _ in sequences], [q for _, q in sequences]
    batch = flat_batch(lengths, queries)
    assert (batch.tokens, batch.queries) == (sum(lengths), sum(queries))
    seen = [(run.tokens, run.queries) for run in batch.runs for _ in range(run.sequences)]
    assert seen == sequences
    tokens = torch.cat([run.of_tokens(torch.arange(batch.tokens)).flatten() for run in batch.runs])
    asked = torch.cat([run.of_queries(torch.arange(batch.queries)).flatten() for run in batch.runs])
    assert tokens.tolist() == list(range(batch.tokens))
    assert asked.tolist() == list(range(batch.queries))


def test_equal_neighbours_share_a_run() -> None:
    assert len(flat_batch([3, 3, 3, 2, 2], [1, 1, 1, 1, 1]).runs) == 2
    assert len(flat_batch([3, 3, 3], [1, 2, 1]).runs) == 3


def test_ids_know_their_positions() -> None:
    ids, positions, starts = flat_ids([[5, 6, 7], [8], [9, 10]])
    assert ids.tolist() == [5, 6, 7, 8, 9, 10]
    assert positions.tolist() == [0, 1, 2, 0, 0, 1]
    assert starts.tolist() == [0, 3, 4]


@given(st.sampled_from(KERNELS), SEQUENCES, st.sampled_from([None, 1, 3]))
@torch.inference_mode()
def test_attention_is_that_of_each_sequence_alone(
    kernels: FlatKernels, sequences: list[tuple[int, int]], reach: int | None
) -> None:
    lengths, counts = [n for n, _ in sequences], [q for _, q in sequences]
    batch: FlatBatch = flat_batch(lengths, counts)
    qkv = drawn(batch.tokens + batch.queries, 3 * HIDDEN)
    got = kernels.attend(qkv, batch, HEADS, reach=reach)
    for length, count, first, asked in zip(lengths, counts, starts_of(lengths), starts_of(counts), strict=True):
        own = torch.arange(batch.tokens + asked, batch.tokens + asked + count)
        rows = torch.cat([torch.arange(first, first + length), own])
        query, key, value = qkv[rows].chunk(3, dim=-1)
        allowed = torch.zeros(len(rows), len(rows), dtype=torch.bool)
        allowed[:, :length] = True
        allowed[:length, :length] = near(torch.arange(length), length, reach)
        allowed.fill_diagonal_(True)
        torch.testing.assert_close(got[rows], plain(query, key, value, allowed), atol=1e-5, rtol=0.0)


@given(st.sampled_from(KERNELS), SEQUENCES, st.sampled_from([None, 1, 3]))
@torch.inference_mode()
def test_attention_from_some_tokens_is_theirs_in_the_whole(
    kernels: FlatKernels, sequences: list[tuple[int, int]], reach: int | None
) -> None:
    lengths = [n for n, _ in sequences]
    picked = [sorted({min(n - 1, i) for i in range(q)}) for n, q in sequences]
    counts = [len(some) for some in picked]
    batch = flat_batch(lengths, [0] * len(lengths))
    qkv = drawn(batch.tokens, 3 * HIDDEN, seed=2)
    index = torch.tensor([first + i for first, some in zip(starts_of(lengths), picked, strict=True) for i in some])
    wanted = Wanted(
        index=index.long(),
        positions=torch.tensor([i for some in picked for i in some]),
        batch=flat_batch(lengths, counts),
    )
    got = kernels.attend_from(qkv[wanted.index, :HIDDEN], qkv[:, HIDDEN:], wanted, HEADS, reach=reach)
    expected = kernels.attend(qkv, batch, HEADS, reach=reach)[wanted.index]
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("kernels", KERNELS)
@torch.inference_mode()
def test_a_query_with_a_score_far_above_the_texts_sees_itself_alone(kernels: FlatKernels) -> None:
    """The merge of two softmaxes must neither overflow nor lose the smaller part."""
    batch = flat_batch([2], [2])
    qkv = torch.zeros(4, 3 * HIDDEN)
    qkv[:, 2 * HIDDEN :] = drawn(4, HIDDEN, seed=3)
    qkv[2, : 2 * HIDDEN] = 1000.0  # the first query's score of itself: 8e6 / sqrt(8)
    got = kernels.attend(qkv, batch, HEADS)
    torch.testing.assert_close(got[2], qkv[2, 2 * HIDDEN :])
    torch.testing.assert_close(got[3], qkv[[0, 1, 3], 2 * HIDDEN :].mean(0))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_bfloat16_is_close_to_float32(dtype: torch.dtype, kernels: FlatKernels) -> None:
    batch = flat_batch([9, 9, 4], [3, 3, 5])
    qkv = drawn(batch.tokens + batch.queries, 3 * HIDDEN, seed=4)
    exact = kernels.attend(qkv.bfloat16().float(), batch, HEADS)
    got = kernels.attend(qkv.bfloat16().to(dtype), batch, HEADS)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), exact, atol=0.03, rtol=0.0)


@given(st.sampled_from(KERNELS), SEQUENCES)
@torch.inference_mode()
def test_means_are_those_of_each_sequence_s_tokens(kernels: FlatKernels, sequences: list[tuple[int, int]]) -> None:
    lengths, counts = [n for n, _ in sequences], [q for _, q in sequences]
    batch = flat_batch(lengths, counts)
    states = drawn(batch.tokens + batch.queries, HIDDEN, seed=5).bfloat16()
    expected = torch.stack([part.float().mean(0) for part in torch.split(states[: batch.tokens], lengths)])
    got = kernels.means(states, batch)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0.0)
