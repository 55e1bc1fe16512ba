"""Runs of the variants as figures side by side.

Enters: runs as `load_tests.compare_variants` stores them, the sets they were measured on. Leaves: one JSON object, and
tables of it. Must not know: models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean, stdev
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from load_tests.variants.differences import Flags, difference, resampled_f1
from load_tests.variants.models import VARIANTS
from streamer.tuning.data import LabelledSet

BOOTSTRAP_SEED: Final = 0

Runs = Mapping[tuple[str, int], Mapping[str, Any]]  # by variant and seed


def summary(sets: Sequence[LabelledSet], runs: Runs, seeds: int) -> dict[str, Any]:
    """Every variant must have been run with seeds 1 .. `seeds` on these sets."""
    keys = [(name, seed) for name in VARIANTS for seed in range(1, seeds + 1)]
    shape = len(VARIANTS), seeds, len(sets)
    plain, resampled = [], []
    for place, labelled in enumerate(sets):
        given = [_flags(runs[key]["measured"]["sets"][place]["given"], len(labelled.names)) for key in keys]
        right = _flags([[labelled.names.index(name) for name in one] for one in labelled.labels], len(labelled.names))
        as_they_are, again = resampled_f1(right, given, seed=BOOTSTRAP_SEED + place)
        plain.append(as_they_are)
        resampled.append(again)
    f1 = np.stack(plain, axis=-1).reshape(shape)
    f1_again = np.stack(resampled, axis=1).reshape(*shape, -1)  # (variants, seeds, sets, resamples)
    differences = []
    for one, other in combinations(range(len(VARIANTS)), 2):
        found = difference(f1, f1_again, other, one, seed=BOOTSTRAP_SEED)
        differences.append(
            {
                "variant": VARIANTS[other], "less": VARIANTS[one], "mean": found.mean, "by_seed": found.by_seed,
                "texts": found.texts, "everything": found.everything,
            }
        )  # fmt: skip
    return {
        "sets": [{"dataset": one.dataset, "texts": len(one.texts), "labels": len(one.names)} for one in sets],
        "variants": {
            name: _variant([runs[name, seed] for seed in range(1, seeds + 1)], f1[i].tolist())
            for i, name in enumerate(VARIANTS)
        },
        "differences": differences,
    }


def _flags(places: Sequence[Sequence[int]], labels: int) -> Flags:
    """Places of each text's labels -> (texts, labels)."""
    flags = np.zeros((len(places), labels), dtype=np.bool_)
    for row, columns in enumerate(places):
        flags[row, list(columns)] = True
    return flags


def _variant(runs: Sequence[Mapping[str, Any]], f1: Sequence[Sequence[float]]) -> dict[str, Any]:
    """`f1` (seeds, sets)."""
    means = [fmean(one) for one in f1]
    return {
        "mean_macro_f1": fmean(means),
        "spread": _spread(means),
        "by_seed": means,
        "sets": [{"mean": fmean(one), "spread": _spread(one)} for one in zip(*f1, strict=True)],
        "examples": runs[0]["fit"]["examples"],
        "last_loss": fmean(run["fit"]["losses"][-1] for run in runs),
        "train_wall_s": [round(run["fit"]["wall_s"], 1) for run in runs],
        "train_cpu_s": [round(run["fit"]["cpu_s"], 1) for run in runs],
        "tokens": runs[0]["measured"]["tokens"],
        "score_cpu_ms": min(run["measured"]["cpu_ms"] for run in runs),
    }


def _spread(values: Sequence[float]) -> float:
    """Standard deviation over seeds; 0 of one seed."""
    return stdev(values) if len(values) > 1 else 0.0


def show(console: Console, found: Mapping[str, Any]) -> None:
    """Three tables: macro-F1, differences, cost."""
    names = list(found["variants"])
    table = _table("macro-F1, mean and standard deviation over seeds", "data set", ["texts", "labels", *names])
    for place, one in enumerate(found["sets"]):
        cells = [found["variants"][name]["sets"][place] for name in names]
        shown = [f"{cell['mean']:.3f} ± {cell['spread']:.3f}" for cell in cells]
        table.add_row(one["dataset"], str(one["texts"]), str(one["labels"]), *shown)
    table.add_section()
    means = [f"{one['mean_macro_f1']:.3f} ± {one['spread']:.3f}" for one in found["variants"].values()]
    table.add_row("mean", "", "", *means)
    console.print(table)
    table = _table(
        "differences of the mean, and 95 % intervals", "", ["mean", "by seed", "other texts", "sets, texts, seeds"]
    )
    for one in found["differences"]:
        intervals = [f"{low:+.3f} .. {high:+.3f}" for low, high in (one["texts"], one["everything"])]
        by_seed = " ".join(f"{value:+.3f}" for value in one["by_seed"])
        table.add_row(f"{one['variant']} less {one['less']}", f"{one['mean']:+.3f}", by_seed, *intervals)
    console.print(table)
    columns = ["examples", "training, CPU s", "last loss", "tokens a text", "scoring, CPU ms a text"]
    table = _table("cost of a run, and of a text once labels are ready", "", columns)
    for name, one in found["variants"].items():
        cpu_s = " ".join(f"{value:.0f}" for value in one["train_cpu_s"])
        costs = [f"{one['tokens']:.0f}", f"{one['score_cpu_ms']:.1f}"]
        table.add_row(name, str(one["examples"]), cpu_s, f"{one['last_loss']:.4f}", *costs)
    console.print(table)


def _table(title: str, first: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table
