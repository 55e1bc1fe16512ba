"""Percentiles by nearest rank."""

from __future__ import annotations

import pytest

from load_tests.spread import percentile


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.95) == 95
    assert percentile(values, 0.0) == 1
    assert percentile(values, 1.0) == 100
    assert percentile([7.0], 0.99) == 7


def test_of_nothing_there_is_none() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
