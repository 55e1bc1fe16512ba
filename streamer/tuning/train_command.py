"""`streamer train`: parse and hand over, no logic. What works is imported inside the verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def train(
    out: Annotated[Path, typer.Option(help="New directory for the model.")],
    data: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Labelled .jsonl, .csv or .parquet, as `streamer evaluate` reads it."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Take label set and model from settings.")
    ] = None,
    label_set: Annotated[
        str | None, typer.Option(help="Which label set of the settings; without -c: the labels of the file.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where to start: bundled, a directory, or a Hugging Face id.")
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="Column of the text; may be repeated.")] = None,
    split: Annotated[str | None, typer.Option(help="Only rows whose column 'split' says so.")] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Labelled file to stop by, in place of a held-out share.")
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(min=0.0, max=0.5, help="Share of the texts to stop by; default: 0.1 from 32 texts a label on."),
    ] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="Texts without labels: those the model is sure of become examples.")
    ] = None,
    lora: Annotated[int, typer.Option(min=0, help="Train an addition of this rank; 0: the weights themselves.")] = 0,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Batches of 16 texts; default: 10 rounds through the texts, 60 to 2,000.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1e-7, max=0.1, help="Learning rate; default: 5e-5, with --lora 5e-4.")
    ] = None,
    text_tokens: Annotated[int, typer.Option(min=8, help="Train on the first tokens of each text.")] = 128,
    patience: Annotated[
        int, typer.Option(min=1, help="Stop when held-out texts got no better so many times; 20 are in a whole run.")
    ] = 6,
    seed: Annotated[int, typer.Option(help="Decides the order of the texts.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was broken off.")] = False,
) -> None:
    """Train a model further on your own labels: eight texts a label are enough.

    The labels come from a settings file (their descriptions are part of what
    the model reads), or else from the file itself. What is written is a model
    directory: name it in model.name, or with --model.

    Without examples, --unlabelled trains on texts that the model itself is
    sure of: describe each label well in the settings file.

    A run that was broken off goes on with the same command and --resume, and
    ends in the same model.
    """
    from streamer.telemetry.logs import configure_logs
    from streamer.tuning.few_shot_job import Wish, run_few_shot

    configure_logs(level="error", form="console", stream=sys.stderr)
    wish = Wish(
        data=data,
        out=out,
        config=config,
        label_set=label_set,
        model=model,
        text=text or ["text"],
        split=split,
        validation=validation,
        held_out=held_out,
        unlabelled=unlabelled,
        lora=lora,
        steps=steps,
        rate=rate,
        text_tokens=text_tokens,
        patience=patience,
        seed=seed,
        device=device,
        resume=resume,
    )
    run_few_shot(wish, console=Console(stderr=True))
