"""What an evaluation of labelled records found, as plain values: for a terminal, JSON, Markdown and pictures.

Enters: numbers. Leaves: frozen results. Must not know: how they were measured, how they are shown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from streamer.tuning.metrics_scores import Bin, CoveragePoint

NOTHING_GIVEN = None  # of `Confusion.given`: the facet abstained, or no label reached its threshold


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the records, and the interval that holds it on 95 of 100 files like this one. NaN: not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Three figures that belong together."""

    precision: Figure
    recall: Figure
    f1: Figure


@dataclass(frozen=True, slots=True)
class LabelResult:
    """One label: `support` records where it is right, `given` records that were given it.

    `average_precision`: of multi facets, how well its score ranks the records; NaN for a label that is never right.
    """

    label: str
    support: int
    given: int
    figures: PrecisionRecall
    average_precision: float | None


@dataclass(frozen=True, slots=True)
class Confusion:
    """So many records for which `right` holds were given `given`, which is wrong unless both are the same label."""

    right: str
    given: str | None
    records: int


@dataclass(frozen=True, slots=True)
class Mistake:
    """A record that was answered wrongly with great certainty; `row` counts the records read, from 1."""

    row: int
    id: str | None
    text: str
    right: tuple[str, ...]
    given: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class FacetResult:
    """One facet; `metrics.Figures` and `metrics_scores` say what each figure means.

    `ece`: of the best scored label of each record, in 10 bins of equal mass, which are `reliability`; `ece_labels`: of
    multi facets, the same over the scores of all labels. `mean_average_precision`: of multi facets, over labels that
    are right at least once. `never_right`: labels that no record has.
    """

    facet: str
    kind: str
    records: int
    labels: tuple[LabelResult, ...]
    never_right: tuple[str, ...]
    macro: PrecisionRecall
    micro: PrecisionRecall
    weighted: PrecisionRecall
    accuracy: Figure
    answered: Figure
    accuracy_answered: Figure
    accuracy_at: dict[str, Figure]
    mean_average_precision: float | None
    brier: Figure
    ece: float
    ece_labels: float | None
    reliability: tuple[Bin, ...]
    coverage_by_score: tuple[CoveragePoint, ...]
    coverage_by_margin: tuple[CoveragePoint, ...]
    confusion: tuple[Confusion, ...]
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """What was evaluated."""

    settings: str
    label_set: str
    version: str
    calibration: str | None
    model: str
    revision: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of both sides on the same records; `change` is new minus old, its interval by paired resamples.

    `real`: the interval leaves out 0; of accuracy, McNemar's exact test says so; None where there is no interval.
    """

    figure: str
    old: float
    new: float
    change: Figure
    real: bool | None


@dataclass(frozen=True, slots=True)
class FacetComparison:
    """Both sides on one facet. `only_old`, `only_new`: records that only one side labels exactly right; `p`: McNemar's
    exact test of these two numbers being equal but for chance. `real`: p below .05."""

    facet: str
    records: int
    only_old: int
    only_new: int
    p: float
    real: bool
    differences: tuple[Difference, ...]
    labels: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The evaluated side (new) against another one (old)."""

    old: Side
    facets: tuple[FacetComparison, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecordsEvaluation:
    """Everything found of one labelled file. `resamples` and `seed` are of the intervals; `seconds`: of scoring."""

    file: str
    records: int
    side: Side
    facets: tuple[FacetResult, ...]
    unknown: tuple[str, ...]
    comparison: Comparison | None
    resamples: int
    seed: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is not defined is NaN, which JSON has as null."""
        return asdict(self)
