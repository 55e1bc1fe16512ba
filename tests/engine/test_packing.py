"""Packing: every row once, the budget held, padding bounded."""

from __future__ import annotations

from itertools import chain, pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from streamer.engine.packing import pack, padded_tokens

COSTS = st.lists(st.integers(1, 600), max_size=80)
BUDGET = st.integers(1, 2000)


@given(COSTS, BUDGET, BUDGET)
def test_every_row_is_in_exactly_one_batch(costs: list[int], max_tokens: int, batch_cost: int) -> None:
    batches = pack(costs, max_tokens=max_tokens, batch_cost_tokens=batch_cost)
    assert sorted(row for batch in batches for row in batch) == list(range(len(costs)))
    assert all(batches)


@given(COSTS, BUDGET, BUDGET)
def test_a_batch_stays_within_the_budget_or_holds_one_row(costs: list[int], max_tokens: int, batch_cost: int) -> None:
    for batch in pack(costs, max_tokens=max_tokens, batch_cost_tokens=batch_cost):
        assert len(batch) == 1 or padded_tokens(costs, batch, batch_cost_tokens=0) <= max_tokens


@given(COSTS, BUDGET, BUDGET)
def test_equal_input_gives_equal_batches(costs: list[int], max_tokens: int, batch_cost: int) -> None:
    first = pack(costs, max_tokens=max_tokens, batch_cost_tokens=batch_cost)
    assert pack(list(costs), max_tokens=max_tokens, batch_cost_tokens=batch_cost) == first


@given(COSTS, BUDGET, BUDGET)
def test_no_batch_pads_more_than_another_batch_would_cost(costs: list[int], max_tokens: int, batch_cost: int) -> None:
    for batch in pack(costs, max_tokens=max_tokens, batch_cost_tokens=batch_cost):
        assert padded_tokens(costs, batch, batch_cost_tokens=0) - sum(costs[row] for row in batch) <= batch_cost


@given(COSTS, BUDGET, st.integers(0, 2000))
def test_a_batch_is_closed_only_for_a_reason(costs: list[int], max_tokens: int, batch_cost: int) -> None:
    """The first row of the next batch would have broken the budget or the bound on padding."""
    batches = pack(costs, max_tokens=max_tokens, batch_cost_tokens=batch_cost)
    for batch, following in pairwise(batches):
        joined = [*batch, following[0]]
        padding = padded_tokens(costs, joined, batch_cost_tokens=0) - sum(costs[row] for row in joined)
        assert padded_tokens(costs, joined, batch_cost_tokens=0) > max_tokens or padding > batch_cost


def test_padding_is_a_fraction_of_what_arrival_order_pads() -> None:
    random = Random(3)
    costs = [min(511, 24 + int(random.lognormvariate(3.5, 0.8))) for _ in range(1024)]
    arrival = [range(start, start + 16) for start in range(0, len(costs), 16)]
    tokens = sum(costs)
    wasted_by_arrival = sum(padded_tokens(costs, batch, batch_cost_tokens=0) for batch in arrival) - tokens
    batches = pack(costs, max_tokens=4096, batch_cost_tokens=64)
    wasted = sum(padded_tokens(costs, batch, batch_cost_tokens=0) for batch in batches) - tokens
    assert wasted < 0.05 * wasted_by_arrival
    assert len(batches) < 2 * len(arrival)


def test_a_batch_may_pad_exactly_what_another_batch_would_cost() -> None:
    assert pack([7, 7, 7], max_tokens=100, batch_cost_tokens=0) == [[0, 1, 2]]
    assert pack([5, 9, 8, 8], max_tokens=100, batch_cost_tokens=2) == [[1, 2, 3], [0]]


def test_nothing_to_pack() -> None:
    assert pack([], max_tokens=10, batch_cost_tokens=10) == []


@given(costs=st.lists(st.integers(1, 60), max_size=40), max_tokens=st.integers(1, 200))
def test_without_padding_a_batch_is_the_sum_of_its_rows(costs: list[int], max_tokens: int) -> None:
    batches = pack(costs, max_tokens=max_tokens, batch_cost_tokens=None)
    assert sorted(chain.from_iterable(batches)) == list(range(len(costs)))
    sizes = [padded_tokens(costs, batch, batch_cost_tokens=None) for batch in batches]
    assert sizes == [sum(costs[row] for row in batch) for batch in batches]
    assert all(size <= max_tokens or len(batch) == 1 for size, batch in zip(sizes, batches, strict=True))
    for size, following in zip(sizes, batches[1:], strict=False):
        assert size + costs[following[0]] > max_tokens, "a batch is full before the next one begins"
