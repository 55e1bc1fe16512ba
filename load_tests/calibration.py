"""What calibration brings on real posts: `python -m load_tests.calibration CORPUS`.

CORPUS is a parquet file with the columns dataset, split, text, labels, multi (MODEL_CARD.md says what it holds). Tweet
sentiment (single) and emotions of posts (multi) are scored once by the bundled model; then, for each of five seeds, 50
and 200 records are drawn to fit, and all that were never drawn to fit are measured. Prints a table of means over the
seeds with the worst seed beside them, and one line of JSON. Exit code 1: calibration error above .05 with 200 records,
or scores worse than before with 50.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from streamer.app import build_classifier
from streamer.engine.base import Classifier
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.settings import build_model_settings
from streamer.tuning.calibrate_choose import choose
from streamer.tuning.calibrate_fit import Matrix, Truth, apply, log_losses
from streamer.tuning.data import LabelledSet, read_labelled
from streamer.tuning.metrics_scores import calibration_error, equal_mass_bins, top_label
from streamer.tuning.scored import score_records

SETS = (
    ("semeval2017_sentiment", ("validation",)),
    ("semeval2018_emotions", ("reference_validation", "reference_test")),
)
RECORDS = (50, 200)
SEEDS = range(5)
MOST_ERROR, NOISE = 0.05, 0.005


@dataclass(frozen=True, slots=True)
class Measured:
    """Log loss (of a label, where several can hold), calibration error of the best score and of all scores, and how
    often the best label is right."""

    log_loss: float
    top_error: float
    all_error: float
    accuracy: float


def measure(kind: Kind, exact: Matrix, right: Truth) -> Measured:
    """(records, labels) logits that scores are made of, and what is right -> figures, 10 bins of equally many."""
    if kind is Kind.MULTI:
        scores = 1.0 / (1.0 + np.exp(-exact))
    else:
        scores = np.exp(exact - exact.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    best, hit = top_label(scores, right)
    return Measured(
        log_loss=float(log_losses(kind, exact, right).mean()) / (right.shape[1] if kind is Kind.MULTI else 1),
        top_error=calibration_error(equal_mass_bins(best, hit)),
        all_error=calibration_error(equal_mass_bins(scores.ravel(), right.ravel())),
        accuracy=float(hit.mean()),
    )


def read_set(corpus: Path, dataset: str, splits: tuple[str, ...]) -> LabelledSet:
    """One data set of several splits, with all label names of them."""
    parts = [one for split in splits for one in read_labelled(corpus, split) if one.dataset == dataset]
    return LabelledSet(
        dataset=dataset,
        names=tuple(sorted({name for part in parts for name in part.names})),
        texts=tuple(text for part in parts for text in part.texts),
        labels=tuple(labels for part in parts for labels in part.labels),
        multi=parts[0].multi,
    )


def compare(classifier: Classifier, labelled: LabelledSet) -> list[dict[str, object]]:
    """A row for each number of records to fit: the figures before and after for every seed."""
    kind = Kind.MULTI if labelled.multi else Kind.SINGLE
    label_set = LabelSet(labelled.dataset, (Facet("right", kind, tuple(Label(name) for name in labelled.names)),))
    (scored,) = score_records(classifier, label_set, labelled.texts, lambda done: None)
    logits = scored.astype(np.float64)
    right = np.array([[name in labels for name in labelled.names] for labels in labelled.labels], dtype=np.bool_)
    rows: list[dict[str, object]] = []
    for records in RECORDS:
        before, after, strengths = [], [], Counter[str]()
        for seed in SEEDS:
            order = np.random.default_rng(seed).permutation(len(logits))
            fitted, kept = order[:records], order[max(RECORDS) :]
            found = choose(kind, logits[fitted], right[fitted])
            strengths[found.strength] += 1
            before.append(measure(kind, logits[kept], right[kept]))
            after.append(measure(kind, apply(found.correction, logits[kept]), right[kept]))
        rows.append(
            {
                "set": labelled.dataset,
                "fitted_on": records,
                "measured_on": len(logits) - max(RECORDS),
                "before": [asdict(one) for one in before],
                "after": [asdict(one) for one in after],
                "strengths": dict(strengths),
            }
        )
    return rows


def figures(row: dict[str, object], when: str, name: str) -> Matrix:
    """(seeds,)"""
    of_seeds = row[when]
    assert isinstance(of_seeds, list)
    return np.array([one[name] for one in of_seeds])


def show(console: Console, rows: list[dict[str, object]]) -> None:
    """Means over the seeds; in brackets the worst seed."""
    table = Table()
    for column in ("set", "fitted on", "measured on", "", "log loss", "ECE", "ECE, all labels", "best label right"):
        table.add_column(column)
    for row in rows:
        for when in ("before", "after"):
            told = [str(row["set"]), str(row["fitted_on"]), str(row["measured_on"])] if when == "before" else [""] * 3
            cells = []
            for name, worst in (
                ("log_loss", np.max),
                ("top_error", np.max),
                ("all_error", np.max),
                ("accuracy", np.min),
            ):
                of_seeds = figures(row, when, name)
                cells.append(f"{of_seeds.mean():.3f} ({worst(of_seeds):.3f})")
            table.add_row(*told, when, *cells)
    console.print(table)


def missed(row: dict[str, object]) -> list[str]:
    """What calibration has to bring, and does not."""
    out = []
    if row["fitted_on"] == max(RECORDS) and figures(row, "after", "top_error").mean() > MOST_ERROR:
        out.append(f"{row['set']}: calibration error above {MOST_ERROR} with {row['fitted_on']} records")
    for name in ("log_loss", "top_error"):
        worse = figures(row, "after", name) - figures(row, "before", name)
        if worse.max() > NOISE:
            out.append(f"{row['set']}: {name} worse by {worse.max():.3f} with {row['fitted_on']} records")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    settings = build_model_settings({"name": asked.model, "device": asked.device})
    classifier = build_classifier(settings, max_tokens="auto")
    try:
        rows = [row for name, splits in SETS for row in compare(classifier, read_set(asked.corpus, name, splits))]
    finally:
        classifier.close()
    show(Console(width=140), rows)
    print(json.dumps(rows))
    failures = [line for row in rows for line in missed(row)]
    for line in failures:
        print(line, file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
