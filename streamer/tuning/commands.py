"""`streamer train` and `streamer evaluate`: read, run with a progress bar, report.

Enters: paths and settings from the command line. Leaves: a model directory, or a table and JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from tokenizers import Tokenizer

from streamer.engine.base import Classifier
from streamer.engine.devices import choose_device
from streamer.engine.loading import TOKENIZER
from streamer.errors import UsageError
from streamer.tuning.data import read_labelled, read_written
from streamer.tuning.evaluate import Evaluation, cut_texts, evaluate
from streamer.tuning.recipe import build_sources
from streamer.tuning.train import Trainer, TrainSettings
from streamer.tuning.wordnet import read_wordnet


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def run_train(
    *,
    console: Console,
    data: Path,
    split: str | None,
    wordnet: Path | None,
    written: Path | None,
    start: Path,
    out: Path,
    device: str,
    settings: TrainSettings,
) -> None:
    """Fine-tune from `start` into `out`. Raises UsageError for data or a start that cannot be used."""
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out}: exists and is not empty; --out takes a new directory")
    sets = read_labelled(data, split)
    glosses = read_wordnet(wordnet) if wordnet is not None else []
    texts = read_written(written) if written is not None else []
    for one in sets:
        if len(one.names) < 2:
            raise UsageError(f"{data}: '{one.dataset}' has {len(one.names)} labels; at least two are needed to train")
    console.print(
        f"{sum(len(one.texts) for one in sets)} texts in {len(sets)} sets, {len(glosses)} glosses, {len(texts)} written"
    )
    trainer = Trainer(
        start=start,
        sources=build_sources(sets, glosses, texts),
        settings=settings,
        device=str(choose_device(device)),
        out=out,
    )
    with _progress(console) as progress:
        task = progress.add_task("training", total=settings.stop_after)

        def report(step: int, loss: float) -> None:
            progress.update(task, completed=step, description=f"training, loss {loss:.4f}")
            if not console.is_terminal:
                console.print(f"step {step} of {settings.stop_after}, loss {loss:.4f}")

        trainer.run(report)
    console.print(f"written: {out}")


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
        with _progress(console) as progress:
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
