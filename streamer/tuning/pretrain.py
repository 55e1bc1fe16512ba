"""`streamer pretrain`: read, run with a progress bar, report.

Enters: paths and settings from the command line. Leaves: a model directory.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from streamer.engine.devices import choose_device
from streamer.errors import UsageError
from streamer.terminal import steps_progress
from streamer.tuning.data import read_labelled, read_written
from streamer.tuning.recipe import build_sources
from streamer.tuning.train import Trainer, TrainSettings
from streamer.tuning.wordnet import read_wordnet


def run_pretrain(
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
    with steps_progress(console) as progress:
        task = progress.add_task("training", total=settings.stop_after)

        def report(step: int, loss: float) -> None:
            progress.update(task, completed=step, description=f"training, loss {loss:.4f}")
            if not console.is_terminal:
                console.print(f"step {step} of {settings.stop_after}, loss {loss:.4f}")

        trainer.run(report)
    console.print(f"written: {out}")
