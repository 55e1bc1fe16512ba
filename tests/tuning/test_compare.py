"""Two sides on the same records: real differences are told as such, and chance is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom  # type: ignore[import-untyped]

from streamer.facets import Facet, Kind, Label
from streamer.tuning.compare import comparable, compare_facet, mcnemar_exact
from streamer.tuning.evaluate_answers import align, answer
from streamer.tuning.evaluate_result import Difference
from streamer.tuning.metrics import measured
from tests.tuning.planted import planted, scored


def by_name(differences: tuple[Difference, ...]) -> dict[str, Difference]:
    return {one.figure: one for one in differences}


@pytest.mark.parametrize("kind", list(Kind))
def test_a_better_model_is_really_better(kind: Kind) -> None:
    old, new = planted(kind, signal=1.0), planted(kind, signal=3.0)
    found = compare_facet(old, new, seed=1)
    assert found.real
    assert found.p < 0.001
    assert found.only_new > found.only_old
    differences = by_name(found.differences)
    for name in ("accuracy", "macro_f1", "micro_f1", "weighted_f1", "accuracy_at_1"):
        one = differences[name]
        assert one.real
        assert 0 < one.change.low <= one.change.value <= one.change.high
    assert differences["brier"].change.high < 0
    assert differences["macro_f1"].new == pytest.approx(measured(new).averages["macro"][2][0])


def test_the_same_side_is_no_different() -> None:
    found = compare_facet(planted(Kind.MULTI), planted(Kind.MULTI), seed=1)
    assert (found.p, found.only_old, found.only_new, found.real) == (1.0, 0, 0, False)
    assert not any(one.real for one in found.differences + found.labels)
    assert all(one.change.value == 0 for one in found.differences)


def test_chance_is_mostly_told_as_chance() -> None:
    """Two sides of the same quality, each with noise of its own: about one in twenty is told as different."""
    told = 0
    for seed in range(40):
        one = scored(Kind.SINGLE, records=200, seed=seed)
        noise = np.random.default_rng(1000 + seed).normal(0.0, 1.5, one.logits.shape).astype(np.float32)
        other = replace(one, logits=2.0 * one.right + noise - 0.5)
        other.logits[:, -1] = -20.0
        found = compare_facet(answer(one), answer(other), seed=1)
        told += found.real or bool(by_name(found.differences)["macro_f1"].real)
    assert told <= 6


def test_labels_in_another_order_are_the_same_labels() -> None:
    old, new = planted(Kind.SINGLE), planted(Kind.SINGLE)
    turned = align(old, tuple(reversed(old.names)))
    found = compare_facet(turned, new, seed=1)
    assert found.only_old == found.only_new == 0
    assert not any(one.real for one in found.differences)


def test_comparable() -> None:
    one = Facet("f", Kind.SINGLE, (Label("a"), Label("b", "described")))
    assert comparable(one, Facet("f", Kind.SINGLE, (Label("b"), Label("a"))))
    assert not comparable(one, Facet("f", Kind.MULTI, (Label("b"), Label("a"))))
    assert not comparable(one, Facet("f", Kind.SINGLE, (Label("b"), Label("c"))))


@pytest.mark.parametrize(("old", "new"), [(0, 0), (3, 3), (1, 9), (12, 30)])
def test_mcnemar_is_exact(old: int, new: int) -> None:
    expected = min(1.0, 2 * float(binom.cdf(min(old, new), old + new, 0.5))) if old + new else 1.0
    assert mcnemar_exact(old, new) == pytest.approx(expected)


def test_figures_without_an_interval_are_not_judged() -> None:
    differences = by_name(compare_facet(planted(Kind.MULTI), planted(Kind.MULTI, signal=4.0), seed=1).differences)
    for name in ("ece", "mean_average_precision"):
        assert differences[name].real is None
        assert np.isnan(differences[name].change.low)
    assert differences["mean_average_precision"].change.value > 0.1
    assert "mean_average_precision" not in by_name(
        compare_facet(planted(Kind.SINGLE), planted(Kind.SINGLE), seed=1).differences
    )
