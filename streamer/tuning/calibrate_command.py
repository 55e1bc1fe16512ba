"""`streamer calibrate`: parse and hand over, no logic. What works is imported inside the verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def calibrate(
    data: Annotated[Path, typer.Argument(help="Labelled file: .jsonl, .csv or .parquet, see below.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="Settings file: its label sets and model.")],
    label_set: Annotated[str | None, typer.Option(help="Which label set of the settings.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default: the one that the settings name.")
    ] = None,
    goal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GOAL",
            help="What limits are chosen for: max-f1, precision>=0.9 or cost=FP:1,FN:5; FACET:GOAL for one facet "
            "alone; may be repeated. Default: limits stay.",
        ),
    ] = None,
    accuracy: Annotated[
        float | None,
        typer.Option(min=0.01, max=0.999, help="Abstain so that what is left is right at least so often."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", help="Column or JSON pointer; may be repeated.")] = None,
    split: Annotated[str | None, typer.Option(help="Only rows whose column 'split' says so.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the calibration as one line of JSON, last.")] = False,
) -> None:
    """Make scores mean what they say, from labelled records, and choose thresholds.

    Each row has a text and what is right about it: a column for each facet,
    or a column 'labels' that holds an object of them. 50 rows that tell of a
    facet are enough to begin with, 200 are good; below 40 a facet stays as
    it is. They should come from what the model is to label.

    Scores are corrected by a slope and a bias of each logit, as strongly as
    cross-validation says is worth it. A max-f1 threshold serves all labels of
    a facet together; precision>=P and --accuracy are chosen so that they hold
    on other records too, nine times in ten; cost=FP:A,FN:B weighs a wrong label against a missed one. In
    single facets they choose min_score. Limits in the settings file win.

    Name the file in the settings: label_sets.NAME.calibration. It is refused
    for other labels or another model.

    Exit code 0: written. 1: failed. 2: wrong usage, or a goal out of reach.
    """
    from streamer.extras import require_tuning

    require_tuning("calibrate")
    from streamer.telemetry.logs import configure_logs
    from streamer.tuning.calibrate_run import Wish, run_calibrate

    configure_logs(level="error", form="console", stream=sys.stderr)
    wish = Wish(
        data=data,
        config=config,
        label_set=label_set,
        out=out,
        goals=tuple(goal or ()),
        accuracy=accuracy,
        text=tuple(text or ()),
        split=split,
        overwrite=overwrite,
    )
    found = run_calibrate(wish, console=Console(stderr=True), out=Console())
    if as_json:
        import orjson

        print(orjson.dumps(found.model_dump()).decode())
