"""`streamer replay`: parse and hand over, no logic. What works is imported inside the verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamer.bounds import BOUND_HELP

PIPE_WIDTH = 200  # columns, where no terminal tells how many fit
INTERRUPTED = 130  # as shells tell of a process that SIGINT ended


def replay(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Settings file to label by: the one of production, or another one.")
    ],
    topic: Annotated[str, typer.Option(help="Input topic of the settings to read again.")],
    to: Annotated[str, typer.Option(help="Topic for the new events; none that the settings name.")],
    since: Annotated[str, typer.Option(help=f"Begin with records written then: {BOUND_HELP}.")],
    until: Annotated[str, typer.Option(help="End before records written then; written like --since.")] = "end",
    rate: Annotated[float | None, typer.Option(min=0.001, help="Records a second; default: no limit.")] = None,
    dead_letter: Annotated[
        str | None,
        typer.Option(help="Topic for records that cannot be labelled; default: they are counted, and written nowhere."),
    ] = None,
    compare_with: Annotated[
        list[str] | None,
        typer.Option(help="Topic of the old events; may be repeated. Default: the stream's output and route topics."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Group that keeps how far the replay came; default: one made for it.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report to this file, as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one line of JSON, last.")] = False,
) -> None:
    """Label a stretch of an input topic again, into a topic beside the usual ones.

    Every event goes to the target, whatever its route; the field 'route' says
    where production would send it. Nothing else of the settings is written
    to, and the offsets of their group stay. In the end, the new events are
    compared with the old ones, by id.

    Ctrl-C finishes what was read. The same command (same topic, target, range
    as written, label set and model) then goes on with the range it began with;
    a few events may be written twice. How far it came is kept as long as
    committed offsets are (offsets.retention.minutes, 7 days by default). A
    replay that was finished is compared again, but not repeated, unless the
    range has grown meanwhile or you name another --group.

    Exit code 0: all was labelled, or there was nothing to label. 1: failed.
    2: wrong usage. 130: stopped before the end.
    """
    from streamer.replay.job import Wish, run_replay
    from streamer.signals import stop_on_signals
    from streamer.telemetry.logs import configure_logs

    configure_logs(level="error", form="console", stream=sys.stderr)
    wish = Wish(
        config=config,
        topic=topic,
        to=to,
        since=since,
        until=until,
        dead_letter=dead_letter,
        group=group,
        compare_with=compare_with or [],
        rate=rate,
        report=report,
        as_json=as_json,
    )
    out = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    whole = run_replay(wish, console=Console(stderr=True), out=out, stop_on_signals=stop_on_signals)
    raise typer.Exit(0 if whole else INTERRUPTED)
