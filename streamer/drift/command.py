"""`streamer drift`: parse and hand over, no logic. What works is imported inside the verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamer.bounds import BOUND_HELP

drift_app = typer.Typer(
    help="Make the baseline of drift, and look at how far streams are from it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="Settings file (YAML).")]


@drift_app.command()
def baseline(
    config: ConfigOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Baseline file to write, or to add streams to.")],
    url: Annotated[
        str | None, typer.Option(help="Take what a running process counted lately: http://HOST:PORT/drift.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--input", "-i", help="Label a file of records: .jsonl, .csv, .parquet or .txt.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help=f"Label records of the input topics, written since then: {BOUND_HELP}.")
    ] = None,
    until: Annotated[str, typer.Option(help="With --since: end before records written then.")] = "end",
    topic: Annotated[
        list[str] | None, typer.Option(help="Input topic of the settings; may be repeated. Default: all of them.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Label at most so many records of each topic.")] = 20_000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace streams that the file holds.")] = False,
) -> None:
    """Count labels, scores, abstentions, lengths and languages of records that are as they should be.

    Give one of --url, --input and --since. Nothing is written to Kafka.
    """
    from streamer.drift.job import BaselineWish, run_baseline
    from streamer.telemetry.logs import configure_logs

    configure_logs(level="error", form="console", stream=sys.stderr)
    wish = BaselineWish(
        config=config,
        out=out,
        url=url,
        source=source,
        since=since,
        until=until,
        topics=topic or [],
        limit=limit,
        overwrite=overwrite,
    )
    run_baseline(wish, console=Console(highlight=False))


@drift_app.command()
def show(
    config: ConfigOption,
    url: Annotated[str, typer.Option(help="Of a running process: http://HOST:PORT/drift.")],
) -> None:
    """How far a running process is from the baseline of the settings, and what changed most."""
    from streamer.drift.job import run_show
    from streamer.telemetry.logs import configure_logs

    configure_logs(level="error", form="console", stream=sys.stderr)
    run_show(config, url=url, console=Console(highlight=False))
