"""One facet's answers -> its FacetResult.

Enters: Answers, the records they are about. Leaves: figures with intervals, confusions, mistakes. Must not know:
models, files.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamer.facets import Kind
from streamer.tuning.bootstrap import interval, resampled_sums
from streamer.tuning.evaluate_answers import Answers, Matrix
from streamer.tuning.evaluate_result import (
    NOTHING_GIVEN,
    Confusion,
    FacetResult,
    Figure,
    LabelResult,
    Mistake,
    PrecisionRecall,
)
from streamer.tuning.labelled import LabelledRecords
from streamer.tuning.metrics import Figures, columns, exactly_right, figures, measured
from streamer.tuning.metrics_scores import (
    average_precisions,
    calibration_error,
    coverage_by_margin,
    coverage_by_score,
    equal_mass_bins,
    mean_defined,
    top_label,
)

MOST_MISTAKES = 20
MISTAKE_CHARACTERS = 200


def evaluate_facet(answers: Answers, records: LabelledRecords, *, seed: int) -> FacetResult:
    """Everything there is to say of one facet."""
    facet, multi = answers.facet, answers.facet.kind is Kind.MULTI
    found = measured(answers)
    [sums] = resampled_sums([columns(answers)], seed=seed)
    many = figures(answers, sums)
    precisions = average_precisions(answers) if multi else None
    bins = equal_mass_bins(*top_label(answers.scores, answers.right))
    return FacetResult(
        facet=facet.name,
        kind=str(facet.kind),
        records=len(answers.right),
        labels=tuple(_labels(answers, found, many, precisions)),
        never_right=tuple(name for name, support in zip(answers.names, found.support[0], strict=True) if not support),
        macro=_average(found, many, "macro"),
        micro=_average(found, many, "micro"),
        weighted=_average(found, many, "weighted"),
        accuracy=_figure(found.accuracy, many.accuracy),
        answered=_figure(found.answered, many.answered),
        accuracy_answered=_figure(found.accuracy_answered, many.accuracy_answered),
        accuracy_at={str(k): _figure(one, many.accuracy_at[k]) for k, one in found.accuracy_at.items()},
        mean_average_precision=None if precisions is None else mean_defined(precisions),
        brier=_figure(found.brier, many.brier),
        ece=calibration_error(bins),
        ece_labels=(
            calibration_error(equal_mass_bins(answers.scores.ravel(), answers.right.ravel())) if multi else None
        ),
        reliability=bins,
        coverage_by_score=coverage_by_score(answers),
        coverage_by_margin=coverage_by_margin(answers),
        confusion=tuple(_confusion(answers)),
        mistakes=tuple(_mistakes(answers, records)),
    )


def _figure(value: Matrix, many: Matrix) -> Figure:
    return Figure(float(value[0]), *interval(many))


def _average(found: Figures, many: Figures, name: str) -> PrecisionRecall:
    three = [_figure(one, more) for one, more in zip(found.averages[name], many.averages[name], strict=True)]
    return PrecisionRecall(*three)


def _labels(
    answers: Answers, found: Figures, many: Figures, precisions: tuple[float, ...] | None
) -> Iterator[LabelResult]:
    pairs = ((found.precision, many.precision), (found.recall, many.recall), (found.f1, many.f1))
    for i, name in enumerate(answers.names):
        yield LabelResult(
            label=name,
            support=int(found.support[0, i]),
            given=int(found.given[0, i]),
            figures=PrecisionRecall(*(_figure(one[:, i], more[:, i]) for one, more in pairs)),
            average_precision=None if precisions is None else precisions[i],
        )


def _confusion(answers: Answers) -> Iterator[Confusion]:
    """Cells that are not empty, in the order of the labels. Of a multi facet only wrong labels stand beside the right
    ones: two that are both right are not confused."""
    right, given = answers.right.astype(np.float64), answers.given
    cells = right.T @ (given & ~answers.right)
    np.fill_diagonal(cells, (answers.right & given).sum(axis=0))
    nothing = right.T @ ~given.any(axis=1)
    for i, name in enumerate(answers.names):
        for j in cells[i].nonzero()[0]:
            yield Confusion(name, answers.names[j], int(cells[i, j]))
        if nothing[i]:
            yield Confusion(name, NOTHING_GIVEN, int(nothing[i]))


def _mistakes(answers: Answers, records: LabelledRecords) -> Iterator[Mistake]:
    """Wrong answers, those with the highest scored wrong label first. Wrong labels are what is looked for: a mistake
    that consists in giving too little has none, and comes last."""
    wrong_scores = np.where(answers.given & ~answers.right, answers.scores, 0.0).max(axis=1)
    wrong = (~exactly_right(answers) & ~answers.abstained).nonzero()[0]
    for i in wrong[np.argsort(-wrong_scores[wrong], kind="stable")][:MOST_MISTAKES]:
        row = int(answers.rows[i])
        yield Mistake(
            row=row + 1,
            id=None if records.ids is None else records.ids[row],
            text=records.texts[row][:MISTAKE_CHARACTERS],
            right=_names(answers, answers.right[i]),
            given=_names(answers, answers.given[i]),
            score=float(wrong_scores[i]),
        )


def _names(answers: Answers, row: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> tuple[str, ...]:
    return tuple(name for name, holds in zip(answers.names, row.tolist(), strict=True) if holds)
