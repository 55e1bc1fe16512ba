"""`streamer labels`: parse and hand over, no logic. What works is imported inside the verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

PIPE_WIDTH = 200  # columns, where no terminal tells how many fit

labels_app = typer.Typer(
    help="Find labels for texts that nobody has labelled yet.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@labels_app.callback()
def _group() -> None:
    """Find labels for texts that nobody has labelled yet."""


@labels_app.command()
def suggest(
    source: Annotated[Path, typer.Argument(metavar="FILE", help=".jsonl, .csv, .parquet or .txt.")],
    column: Annotated[list[str] | None, typer.Option("--text", help="Column or JSON pointer; may be repeated.")] = None,
    count: Annotated[int | None, typer.Option(min=2, max=500, help="So many labels; default: what fits best.")] = None,
    most: Annotated[int, typer.Option(min=2, max=60, help="Without --count: no more labels than this.")] = 60,
    sample: Annotated[int, typer.Option(min=10, max=100_000, help="Look at so many texts of a larger file.")] = 20_000,
    model: Annotated[str, typer.Option(help="bundled, or a directory of a model of its kind.")] = "bundled",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of sampling and clustering.")] = 1,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print a label_sets block for the settings instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of a table.")] = False,
) -> None:
    """Propose labels: group texts that are alike, and name each group by its salient words.

    Texts are read by the bundled model, and never leave this machine. Words
    are told apart by blanks, and English stop words are left out; other
    languages work less well. Needs scikit-learn: pip install streamer[tuning]
    """
    from streamer.extras import require_tuning
    from streamer.labels.job import run_suggest
    from streamer.telemetry.logs import configure_logs

    require_tuning("labels suggest")
    configure_logs(level="error", form="console", stream=sys.stderr)
    run_suggest(
        source=source,
        columns=column or [],
        count=count,
        most=most,
        sample=sample,
        model=model,
        device=device,
        seed=seed,
        form="yaml" if as_yaml else "json" if as_json else "table",
        console=Console(stderr=True),
        out=Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False),
    )
