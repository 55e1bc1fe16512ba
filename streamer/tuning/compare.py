"""Two sides on the same records: is the difference real?

Enters: Answers of both. Leaves: a FacetComparison: differences with intervals by the paired bootstrap, where both sides
are always measured on the same resample, and McNemar's exact test (1947) of the records that only one side gets right.
Must not know: models, files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from scipy.stats import binomtest  # type: ignore[import-untyped]

from streamer.facets import Facet, Kind
from streamer.tuning.bootstrap import interval, resampled_sums
from streamer.tuning.evaluate_answers import Answers, Matrix, align
from streamer.tuning.evaluate_result import Difference, FacetComparison, Figure
from streamer.tuning.metrics import Figures, columns, exactly_right, figures, measured
from streamer.tuning.metrics_scores import (
    average_precisions,
    calibration_error,
    equal_mass_bins,
    mean_defined,
    top_label,
)

REAL_BELOW = 0.05
ROUNDING = 1e-6  # sums are float32: what is apart no further is the same


def comparable(old: Facet, new: Facet) -> bool:
    """Whether both ask the same: labels of the same names, one or several of them. Wordings may differ."""
    names = [sorted(label.name for label in facet.labels) for facet in (old, new)]
    return old.kind is new.kind and names[0] == names[1]


def mcnemar_exact(only_old: int, only_new: int) -> float:
    """Two-sided p of these two numbers, or more unequal ones, if either were as likely."""
    return float(binomtest(only_old, only_old + only_new).pvalue) if only_old + only_new else 1.0


def compare_facet(old: Answers, new: Answers, *, seed: int) -> FacetComparison:
    """Compare answers to the same records; their facets must be `comparable`."""
    old = align(old, new.names)
    before, after = measured(old), measured(new)
    old_sums, new_sums = resampled_sums([columns(old), columns(new)], seed=seed)
    many = (figures(old, old_sums), figures(new, new_sums))
    was, now = exactly_right(old), exactly_right(new)
    only_old, only_new = int((was & ~now).sum()), int((now & ~was).sum())
    p = mcnemar_exact(only_old, only_new)
    return FacetComparison(
        facet=new.facet.name,
        records=len(was),
        only_old=only_old,
        only_new=only_new,
        p=p,
        real=p < REAL_BELOW,
        differences=(*_differences((before, after), many, exact=p < REAL_BELOW), *_ranking_differences(old, new)),
        labels=tuple(
            _difference(name, (before.f1[:, i], after.f1[:, i]), (many[0].f1[:, i], many[1].f1[:, i]))
            for i, name in enumerate(new.names)
        ),
    )


def _differences(one: tuple[Figures, Figures], many: tuple[Figures, Figures], *, exact: bool) -> Iterator[Difference]:
    # where an exact test is to be had, it decides
    yield replace(_difference("accuracy", _both(one, "accuracy"), _both(many, "accuracy")), real=exact)
    for name in ("answered", "accuracy_answered", "brier"):
        yield _difference(name, _both(one, name), _both(many, name))
    for name in ("macro", "micro", "weighted"):
        # (precision, recall, F1): the last one tells of both
        yield _difference(
            f"{name}_f1",
            (one[0].averages[name][2], one[1].averages[name][2]),
            (many[0].averages[name][2], many[1].averages[name][2]),
        )
    for k in one[1].accuracy_at:
        yield _difference(
            f"accuracy_at_{k}",
            (one[0].accuracy_at[k], one[1].accuracy_at[k]),
            (many[0].accuracy_at[k], many[1].accuracy_at[k]),
        )


def _ranking_differences(old: Answers, new: Answers) -> Iterator[Difference]:
    """Figures that are no sums over records, and have no intervals here."""
    pairs = {"ece": [calibration_error(equal_mass_bins(*top_label(one.scores, one.right))) for one in (old, new)]}
    if new.facet.kind is Kind.MULTI:
        pairs["mean_average_precision"] = [mean_defined(average_precisions(one)) for one in (old, new)]
    for name, (was, now) in pairs.items():
        yield Difference(name, was, now, Figure(now - was, float("nan"), float("nan")), real=None)


def _both(sides: tuple[Figures, Figures], name: str) -> tuple[Matrix, Matrix]:
    return getattr(sides[0], name), getattr(sides[1], name)


def _difference(name: str, one: tuple[Matrix, Matrix], many: tuple[Matrix, Matrix]) -> Difference:
    low, high = interval(many[1] - many[0])
    old, new = float(one[0][0]), float(one[1][0])
    # NaN compares false: what is not defined is no real difference
    return Difference(name, old, new, Figure(new - old, low, high), bool(low > ROUNDING or high < -ROUNDING))
