"""Eight examples a label: `python -m load_tests.few_shot CORPUS --work DIR [--only SET] [--fit ... --measure ...]`.

CORPUS is a labelled file whose rows have the columns text, labels, dataset and split. For each data set of the split
`--measure` (benchmark_test), the bundled model is trained as `streamer train` does it, with its defaults but for what
the command line sets, on the rows of that set in the split `--fit` (benchmark_fewshot), and then measured by the
protocol of MODEL_CARD.md: all rows, the set's whole label list, word for word, the first 256 tokens, macro-F1.

A line of JSON for each set goes to DIR/results.jsonl; the command may be broken off, even within a set, and repeated:
it goes on where it was. In the end prints a table, and one line of JSON.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.table import Table

from load_tests.harness import LoadTestError, exit_with
from streamer.app import BUNDLED, build_classifier
from streamer.engine.loading import read_tokenizer
from streamer.settings import build_model_settings
from streamer.terminal import progress_bar
from streamer.tuning.data import LabelledSet, read_labelled
from streamer.tuning.evaluate import cut_texts, label_set_of, predict, score_set
from streamer.tuning.few_shot_job import Wish, run_few_shot

MEASURED_TOKENS: Final = 256
TRAINED_TOKENS: Final = 128  # the default of `streamer train`
PATIENCE: Final = 6


def main(
    corpus: Annotated[Path, typer.Argument(help="jsonl, csv or parquet with text, labels, dataset, split.")],
    work: Annotated[Path, typer.Option(help="Directory for models and results.")],
    fit: Annotated[str, typer.Option(help="Split to train on.")] = "benchmark_fewshot",
    measure: Annotated[str, typer.Option(help="Split to measure on.")] = "benchmark_test",
    only: Annotated[list[str] | None, typer.Option(help="Only this data set; may be repeated.")] = None,
    lora: Annotated[int, typer.Option(min=0, help="Rank; 0: train the weights themselves.")] = 0,
    rate: Annotated[float | None, typer.Option(help="Learning rate; default: the command's own.")] = None,
    steps: Annotated[int | None, typer.Option(help="Batches; default: the command's own.")] = None,
    seed: int = 1,
    model: Annotated[str, typer.Option(help="Where to start.")] = BUNDLED,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the models.")] = False,
) -> None:
    """Train on few examples of each data set, measure on others."""
    options = {"lora": lora, "rate": rate, "steps": steps, "seed": seed, "model": model}
    exit_with(lambda: _run(corpus, work, fit, measure, only or [], options, keep))


def _run(
    corpus: Path, work: Path, fit: str, measure: str, only: Sequence[str], options: dict[str, Any], keep: bool
) -> bool:
    console = Console(stderr=True)
    work.mkdir(parents=True, exist_ok=True)
    results = work / "results.jsonl"
    few = {one.dataset: one for one in read_labelled(corpus, fit)}
    sets = [one for one in read_labelled(corpus, measure) if not only or one.dataset in only]
    missing = [one.dataset for one in sets if one.dataset not in few] + [name for name in only if name not in few]
    if missing:
        raise LoadTestError(f"{corpus}: split '{fit}' has no rows of '{missing[0]}'")
    done = {row["dataset"] for row in _rows(results)}
    for labelled in sets:
        if labelled.dataset not in done:
            row = {**_one(few[labelled.dataset], labelled, work, options, console, keep), **options}
            with results.open("ab") as file:
                file.write(orjson.dumps(row) + b"\n")
    named = {one.dataset for one in sets}
    rows = [row for row in _rows(results) if row["dataset"] in named]
    _show(Console(), rows)
    mean = fmean(row["macro_f1"] for row in rows)
    print(orjson.dumps({"sets": rows, "mean_macro_f1": mean}).decode())
    return True


def _rows(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def _one(
    few: LabelledSet, labelled: LabelledSet, work: Path, options: dict[str, Any], console: Console, keep: bool
) -> dict[str, Any]:
    """Train unless that is done, measure, and say what came of it and how long it took (wall clock, seconds).

    `train_s` is None where training was broken off in between.
    """
    directory, data = work / few.dataset, work / f"{few.dataset}.jsonl"
    console.print(f"{few.dataset}: {len(few.texts)} texts, {len(few.names)} labels", markup=False)
    pairs = zip(few.texts, few.labels, strict=True)
    data.write_bytes(b"".join(orjson.dumps({"text": text, "labels": names}) + b"\n" for text, names in pairs))
    train_s: float | None = None
    if not directory.exists():
        resume = directory.with_name(f"{directory.name}.unfinished").exists()
        began = perf_counter()
        run_few_shot(_wish(data, directory, options, resume), console=console)
        train_s = None if resume else round(perf_counter() - began, 1)
        (directory / "seconds.json").write_bytes(orjson.dumps(train_s))
    train_s = orjson.loads((directory / "seconds.json").read_bytes())
    began = perf_counter()
    macro_f1, accuracy = _measure(directory, labelled, console)
    measure_s = round(perf_counter() - began, 1)
    if not keep:
        shutil.rmtree(directory)
        data.unlink()
    return {
        "dataset": few.dataset, "fitted": len(few.texts), "rows": len(labelled.texts), "labels": len(labelled.names),
        "macro_f1": macro_f1, "accuracy": accuracy, "train_s": train_s, "measure_s": measure_s,
    }  # fmt: skip


def _wish(data: Path, out: Path, options: dict[str, Any], resume: bool) -> Wish:
    return Wish(
        data=data, out=out, config=None, label_set=None, text=["text"], split=None, validation=None, held_out=None,
        unlabelled=None, text_tokens=TRAINED_TOKENS, patience=PATIENCE, device="auto", resume=resume, **options,
    )  # fmt: skip


def _measure(directory: Path, labelled: LabelledSet, console: Console) -> tuple[float, float]:
    """Macro-F1 and accuracy of the model in the directory."""
    tokenizer = read_tokenizer(directory)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = cut_texts(tokenizer, labelled.texts, MEASURED_TOKENS)
    classifier = build_classifier(build_model_settings({"name": str(directory)}), max_tokens="auto")
    try:
        with progress_bar(console, f"measuring {labelled.dataset}", len(texts)) as advance:
            found = score_set(labelled, predict(classifier, label_set_of(labelled), texts, advance))
    finally:
        classifier.close()
    return found.macro_f1, found.accuracy


def _show(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    table = Table(title="few-shot", title_justify="left")
    table.add_column("data set")
    for name in ("fitted", "rows", "labels", "macro-F1", "accuracy", "train s"):
        table.add_column(name, justify="right")
    for row in rows:
        seconds = "" if row["train_s"] is None else f"{row['train_s']:.0f}"
        counts = [str(row[name]) for name in ("fitted", "rows", "labels")]
        table.add_row(row["dataset"], *counts, f"{row['macro_f1']:.3f}", f"{row['accuracy']:.3f}", seconds)
    table.add_section()
    table.add_row("mean", "", "", "", f"{fmean(row['macro_f1'] for row in rows):.3f}", "", "")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
