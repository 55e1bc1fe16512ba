"""`streamer evaluate` of a model on data sets: read, run with a progress bar, show.

Enters: a labelled file whose column `dataset` parts it, a model. Leaves: an Evaluation, and a table of it. Each data
set's whole label list is asked at once; what a settings file decides plays no part (see `evaluate_records.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from streamer.engine.base import Classifier
from streamer.engine.loading import TOKENIZER
from streamer.errors import UsageError
from streamer.terminal import steps_progress
from streamer.tuning.data import read_labelled
from streamer.tuning.evaluate import Evaluation, cut_texts, evaluate


def run_evaluate(
    *,
    console: Console,
    load: Callable[[], tuple[Classifier, Path]],
    data: Path,
    split: str | None,
    leave_out: Sequence[str],
    max_text_tokens: int,
) -> Evaluation:
    """Measure a model on a labelled file; `load` gives it with its directory, once the file is known to be good."""
    sets = [one for one in read_labelled(data, split) if one.dataset not in leave_out]
    if not sets:
        raise UsageError(f"{data}: every data set is left out")
    classifier, directory = load()
    tokenizer = Tokenizer.from_file(str(directory / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    try:
        with steps_progress(console) as progress:
            tasks = {one.dataset: progress.add_task(one.dataset, total=len(one.texts)) for one in sets}
            return evaluate(
                classifier,
                sets,
                cut=lambda texts: cut_texts(tokenizer, texts, max_text_tokens),
                progress=lambda name, done: progress.advance(tasks[name], done),
            )
    finally:
        classifier.close()


def show_evaluation(console: Console, result: Evaluation) -> None:
    """A table, one line per data set."""
    table = Table(title=f"{result.model} {result.revision}", header_style="bold", title_justify="left")
    table.add_column("data set")
    for name in ("texts", "labels", "macro-F1", "accuracy"):
        table.add_column(name, justify="right")
    for one in result.sets:
        table.add_row(one.dataset, str(one.rows), str(one.labels), f"{one.macro_f1:.3f}", f"{one.accuracy:.3f}")
    table.add_section()
    table.add_row("mean", "", "", f"{result.mean_macro_f1:.3f}", "")
    console.print(table)
