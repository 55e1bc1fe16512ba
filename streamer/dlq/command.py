"""`streamer dlq`: parse and hand over, no logic. What works is imported inside the verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from streamer.bounds import BOUND_HELP

if TYPE_CHECKING:
    from streamer.dlq.letters import Selection
    from streamer.dlq.reading import Place

PIPE_WIDTH = 1000  # columns, where no terminal tells how many fit: a row is a line

dlq_app = typer.Typer(
    help="List, explain and redrive dead letters.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Settings file: its cluster and all its dead-letter topics.")
]
TopicOption = Annotated[str | None, typer.Option(help="One dead-letter topic.")]
BootstrapOption = Annotated[
    str | None, typer.Option(help="host:port,... of the cluster, without a settings file; needs --topic.")
]
PropertyOption = Annotated[
    list[str] | None, typer.Option("--property", help="librdkafka's name=value, or name=@file; may be repeated.")
]
CodeOption = Annotated[list[str] | None, typer.Option(help="Only those with this code; may be repeated.")]
SourceOption = Annotated[list[str] | None, typer.Option(help="Only those that came from this topic; may be repeated.")]
SinceOption = Annotated[str, typer.Option(help=f"Begin with dead letters written then: {BOUND_HELP}.")]


@dlq_app.command("list")
def list_(
    config: ConfigOption = None,
    topic: TopicOption = None,
    bootstrap: BootstrapOption = None,
    property_: PropertyOption = None,
    code: CodeOption = None,
    source_topic: SourceOption = None,
    since: SinceOption = "beginning",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many of them.")] = None,
    records: Annotated[bool, typer.Option("--records", help="Show each of them, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each, instead of tables.")] = False,
) -> None:
    """Count dead letters by code, source topic and label set."""
    from streamer.dlq.jobs import list_letters

    list_letters(
        _place(config, topic, bootstrap, property_),
        selection=_selection(code, source_topic, None),
        since=since,
        limit=limit,
        records=records,
        as_json=as_json,
        out=_out(),
        err=Console(stderr=True),
    )


@dlq_app.command()
def explain(
    position: Annotated[
        str, typer.Argument(help="topic-partition-offset of a dead letter, or of the record it repeats.")
    ],
    config: ConfigOption = None,
    topic: TopicOption = None,
    bootstrap: BootstrapOption = None,
    property_: PropertyOption = None,
) -> None:
    """Show all about one dead letter: what its code means, what to do, where it comes from, what it holds."""
    from streamer.dlq.jobs import explain_letter

    place = _place(config, topic, bootstrap, property_)
    explain_letter(place, position, out=_out(), err=Console(stderr=True))


@dlq_app.command()
def redrive(
    positions: Annotated[
        list[str] | None,
        typer.Argument(metavar="[POSITION]...", help="topic-partition-offset of dead letters, or of their records."),
    ] = None,
    config: ConfigOption = None,
    topic: TopicOption = None,
    bootstrap: BootstrapOption = None,
    property_: PropertyOption = None,
    code: CodeOption = None,
    source_topic: SourceOption = None,
    since: SinceOption = "beginning",
    limit: Annotated[int | None, typer.Option(min=1, help="Send no more than this.")] = None,
    to: Annotated[str | None, typer.Option(help="Send to this topic; default: where each came from.")] = None,
    max_redrives: Annotated[
        int, typer.Option(min=1, help="Leave out records that were redriven so often already.")
    ] = 3,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Records a second; default: no limit.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Send those that were redriven before, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is no terminal.")] = False,
) -> None:
    """Send dead letters again, once their cause is mended.

    Key, value and headers go as they were, with two more headers: redrive-of
    is the dead letter's position, redrive-count how often the record was
    redriven. The time is that of sending, and records of one key may change
    places with newer ones.

    What was redriven is noted at the broker (groups streamer-redrive-TOPIC.N)
    and not sent a second time, unless you say --again. The notes last as long
    as committed offsets do (offsets.retention.minutes, 7 days by default).
    After kill -9, up to 500 records may be sent once more. Run one redrive of
    a topic at a time; a second one is found out and ends.

    Before it sends, it shows what it would send, and asks.

    Exit code 0: all was sent and acknowledged, or was redriven before.
    1: something was not sent, and the last lines say why. 2: wrong usage.
    """
    from streamer.dlq.jobs import Request, redrive_letters
    from streamer.errors import UsageError

    asks = not (yes or dry_run)
    if asks and not sys.stdin.isatty():
        raise UsageError("nobody is here to confirm: give --yes to send, or --dry-run to see what would be sent")
    request = Request(
        selection=_selection(code, source_topic, positions),
        since=since,
        limit=limit,
        to=to,
        max_redrives=max_redrives,
        again=again,
        dry_run=dry_run,
        rate=rate,
        confirm=typer.confirm if asks else None,
    )
    place = _place(config, topic, bootstrap, property_)
    complete = redrive_letters(place, request, out=_out(), err=Console(stderr=True))
    raise typer.Exit(0 if complete else 1)


def _place(config: Path | None, topic: str | None, bootstrap: str | None, properties: list[str] | None) -> Place:
    from streamer.dlq.reading import find_place
    from streamer.telemetry.logs import configure_logs

    configure_logs(level="error", form="console", stream=sys.stderr)
    return find_place(config=config, topic=topic, bootstrap=bootstrap, properties=properties or [])


def _selection(codes: list[str] | None, source_topics: list[str] | None, positions: list[str] | None) -> Selection:
    from streamer.dlq.letters import Selection, parse_position

    return Selection(
        frozenset(codes or ()), frozenset(source_topics or ()), frozenset(map(parse_position, positions or ()))
    )


def _out() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
