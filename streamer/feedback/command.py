"""`streamer feedback`: parse and hand over, no logic. What works is imported inside the verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamer.bounds import BOUND_HELP

PIPE_WIDTH = 200  # columns, where no terminal tells how many fit


def feedback(
    config: Annotated[Path, typer.Option("--config", "-c", help="Settings file whose streams were labelled.")],
    topic: Annotated[str, typer.Option(help="Topic of the corrections: JSON with 'id' and 'labels'.")],
    out: Annotated[Path, typer.Option(help="Labelled file (.jsonl) to write, or to bring up to date.")],
    label_set: Annotated[
        str | None, typer.Option(help="Which label set of the settings, where there are several.")
    ] = None,
    since: Annotated[str, typer.Option(help=f"Begin with corrections written then: {BOUND_HELP}.")] = "beginning",
    problems: Annotated[
        Path | None, typer.Option(help="Write every correction that could not be used to this file (.jsonl).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one line of JSON, last.")] = False,
) -> None:
    """Join corrections with the records they are about, into a file to train, evaluate and calibrate with.

    A correction is a JSON object: 'id' is that of the labelled event
    (topic-partition-offset), 'labels' says for each corrected facet which
    labels are right: {"topic": ["billing"]}. The last correction of a record
    counts; one with "labels": {} takes back those before it.

    Texts are read from the input topics, as the settings of their streams say.
    Rows of an earlier run stay in the file as long as no correction takes them
    back, also when their records have expired since; otherwise the file is
    written anew each time, in one step. Nothing is written to Kafka.

    Exit code 0: the file is written. 1: failed, or nothing could be written.
    2: wrong usage.
    """
    from streamer.feedback.job import Wish, run_feedback
    from streamer.telemetry.logs import configure_logs

    configure_logs(level="error", form="console", stream=sys.stderr)
    wish = Wish(
        config=config, topic=topic, out=out, label_set=label_set, since=since, problems=problems, as_json=as_json
    )
    table = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    written = run_feedback(wish, console=Console(stderr=True), out=table)
    raise typer.Exit(0 if written else 1)
