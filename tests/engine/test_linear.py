"""Packed projections against torch's own operations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import gelu, linear

from streamer.engine.linear import PackedProjection, PlainProjection, Projection, padded_rows, projection

needs_mkldnn = pytest.mark.skipif("mkldnn" not in torch.__config__.show().lower(), reason="torch without oneDNN")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.06}  # of values up to about 6


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@needs_mkldnn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 64, 1100])
@pytest.mark.parametrize("kind", [PackedProjection, PlainProjection])
@torch.inference_mode()
def test_both_kinds_are_the_operations_written_out(
    kind: type[PackedProjection | PlainProjection], rows: int, with_bias: bool, dtype: torch.dtype
) -> None:
    x, residual = drawn(rows, 40, seed=1).to(dtype), drawn(rows, 24, seed=2).to(dtype)
    weight, bias = (drawn(24, 40, seed=3) / 40**0.5).to(dtype), drawn(24, seed=4).to(dtype) if with_bias else None
    exact = linear(x.float(), weight.float(), None if bias is None else bias.float())
    asked: Projection = kind(weight, bias)
    for got, expected in (
        (asked(x), exact),
        (asked.gelu(x), gelu(exact)),
        (asked.plus(x, residual), exact + residual.float()),
    ):
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), expected, atol=TOLERANCE[dtype], rtol=0.0)


@needs_mkldnn
def test_the_cpu_takes_packed_weights_and_other_devices_plain_ones() -> None:
    assert isinstance(projection(torch.zeros(4, 4), None), PackedProjection)
    assert isinstance(projection(torch.zeros(4, 4, device="meta"), None), PlainProjection)


@given(st.integers(1, 20_000))
def test_padded_rows_are_the_rows_and_few_zeros_behind(rows: int) -> None:
    given_rows = torch.arange(1.0, rows + 1).unsqueeze(1)
    padded = padded_rows(given_rows)
    assert torch.equal(padded[:rows], given_rows)
    assert not padded[rows:].any()
    assert len(padded) - rows < max(16, rows / 16)


def test_padded_rows_come_in_few_sizes() -> None:
    # each size is a kernel that oneDNN writes, for every shape of weights
    assert len({len(padded_rows(torch.empty(rows))) for rows in range(1, 4097)}) <= 100
