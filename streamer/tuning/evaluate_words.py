"""What an evaluation says in words and rows, the same on a terminal and in a report.

Enters: results. Leaves: plain strings; names and texts of others are cut and made printable. Must not know: rich,
Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

from streamer.terminal import printable
from streamer.tuning.evaluate_result import (
    Comparison,
    Confusion,
    Difference,
    FacetComparison,
    FacetResult,
    Figure,
    LabelResult,
    PrecisionRecall,
    RecordsEvaluation,
    Side,
)

WIDEST = 40  # characters of a name
NOTHING = "-"  # where nothing is defined
FEW_RECORDS = 100  # fewer say little
NAMES = {
    "accuracy": "accuracy",
    "answered": "answered",
    "accuracy_answered": "accuracy of answers",
    "brier": "Brier score (lower is better)",
    "ece": "ECE of the best label (lower is better)",
    "mean_average_precision": "mAP",
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "weighted_f1": "weighted F1",
}
LABEL_HEADINGS = ("label", "precision", "recall", "F1", "95 %", "right", "given")


def name(text: str) -> str:
    """Somebody else's name."""
    return printable(text, WIDEST)


def number(value: float) -> str:
    """Three digits, or a dash."""
    return NOTHING if isnan(value) else f"{value:.3f}"


def between(figure: Figure) -> str:
    """The interval."""
    return NOTHING if isnan(figure.low) else f"{figure.low:.3f} .. {figure.high:.3f}"


def head(result: RecordsEvaluation) -> str:
    """What was evaluated."""
    return f"{result.records:,} records of {name(result.file)}: {side(result.side)}"


def side(one: Side) -> str:
    """A settings file with what decides labels."""
    calibrated = "" if one.calibration is None else f", calibration {one.calibration}"
    return (
        f"{name(one.settings)}, label set {name(one.label_set)} {one.version}{calibrated}, "
        f"model {name(one.model)} {printable(one.revision, 16)}"
    )


def facet_head(one: FacetResult) -> str:
    return f"{name(one.facet)} ({one.kind}, {len(one.labels)} labels, {one.records:,} records)"


def remarks(result: RecordsEvaluation) -> Iterator[str]:
    """What a reader should know before believing the figures."""
    for facet in result.unknown:
        yield f"facet {name(facet)}: no record says what is right; not evaluated"
    for one in result.facets:
        if one.records < FEW_RECORDS:
            yield f"facet {name(one.facet)}: {one.records} records say little; see how wide the intervals are"
        if one.never_right:
            labels = ", ".join(name(label) for label in one.never_right[:10])
            more = f" and {len(one.never_right) - 10} more" if len(one.never_right) > 10 else ""
            yield f"facet {name(one.facet)}: no record has {labels}{more}; of such labels only wrong use is seen"


def summary_rows(one: FacetResult) -> Iterator[tuple[str, str, str]]:
    """Figure, value, interval."""
    for title, value in (("accuracy", one.accuracy), ("answered", one.answered)):
        yield title, number(value.value), between(value)
    if one.answered.value < 1:
        yield "accuracy of answers", number(one.accuracy_answered.value), between(one.accuracy_answered)
    for k, value in one.accuracy_at.items():
        yield f"accuracy@{k}", number(value.value), between(value)
    if one.mean_average_precision is not None:
        yield "mAP", number(one.mean_average_precision), ""
    yield "Brier score", number(one.brier.value), between(one.brier)
    yield "ECE of the best label", number(one.ece), ""
    if one.ece_labels is not None:
        yield "ECE of all labels", number(one.ece_labels), ""


def label_rows(one: FacetResult) -> Iterator[tuple[str, ...]]:
    """LABEL_HEADINGS, and the average precision where the facet is multi."""
    for label in one.labels:
        counts = (f"{label.support:,}", f"{label.given:,}")
        yield (name(label.label), *_three(label.figures), *counts, *_average_precision(label))


def _average_precision(label: LabelResult) -> tuple[str, ...]:
    return () if label.average_precision is None else (number(label.average_precision),)


def average_rows(one: FacetResult) -> Iterator[tuple[str, ...]]:
    """The same columns as far as they apply."""
    for title, three in (("macro", one.macro), ("micro", one.micro), ("weighted", one.weighted)):
        yield (title, *_three(three), "", "", *(() if one.mean_average_precision is None else ("",)))


def _three(three: PrecisionRecall) -> tuple[str, str, str, str]:
    return number(three.precision.value), number(three.recall.value), number(three.f1.value), between(three.f1)


def worst_confusions(one: FacetResult, most: int) -> list[Confusion]:
    """The most frequent mistakes."""
    wrong = [cell for cell in one.confusion if cell.given != cell.right]
    return sorted(wrong, key=lambda cell: -cell.records)[:most]


def given(cell: Confusion) -> str:
    return "(no label)" if cell.given is None else name(cell.given)


def coverage_rows(one: FacetResult) -> Iterator[tuple[str, str, str, str]]:
    """Setting, share answered, share of answers that are right, at about 100, 90, ... 50 %."""
    for setting, points in (("min_score", one.coverage_by_score), ("min_margin", one.coverage_by_margin)):
        seen = set()
        for wanted in range(100, 40, -10):
            nearest = min(points, key=lambda point: abs(point.coverage - wanted / 100))
            if nearest.at not in seen and abs(nearest.coverage - wanted / 100) <= 0.05:
                seen.add(nearest.at)
                at = "none" if nearest.coverage == 1.0 else f"{nearest.at:.4g}"
                yield setting, at, f"{nearest.coverage:.1%}", number(nearest.accuracy)


def difference_rows(differences: tuple[Difference, ...]) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Figure, old, new, change, interval, whether it is real."""
    for one in differences:
        title = NAMES.get(one.figure, one.figure.replace("accuracy_at_", "accuracy@"))
        change = NOTHING if isnan(one.change.value) else f"{one.change.value:+.3f}"
        interval = NOTHING if isnan(one.change.low) else f"{one.change.low:+.3f} .. {one.change.high:+.3f}"
        real = NOTHING if one.real is None else "yes" if one.real else "no"
        yield title, number(one.old), number(one.new), change, interval, real


def verdict(one: FacetComparison) -> Iterator[str]:
    """Plainly: whether the difference is real."""
    by_name = {difference.figure: difference for difference in one.differences}
    accuracy, f1 = by_name["accuracy"], by_name["macro_f1"]
    test = (
        f"of {one.records:,} records {one.only_new:,} are labelled exactly right by the new side alone, "
        f"{one.only_old:,} by the old one alone (McNemar's exact test: p = {one.p:.2g})"
    )
    yield _plain("accuracy", accuracy, one.real, test)
    interval = f"95 % interval of the change {f1.change.low:+.3f} .. {f1.change.high:+.3f}"
    yield _plain("macro-F1", f1, bool(f1.real), interval)


def _plain(what: str, found: Difference, real: bool, why: str) -> str:
    change = found.change.value
    if change == 0 and not real:
        return f"{what}: no difference; {why}"
    direction = "better" if change > 0 else "worse"
    told = "the difference is real" if real else "the difference may be chance"
    return f"{what}: new is {direction} by {abs(change):.3f}; {told}: {why}"


def sides(one: Comparison, new: Side) -> tuple[str, str]:
    return f"new: {side(new)}", f"old: {side(one.old)}"
