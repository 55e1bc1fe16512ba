"""What a replay changed, as counts: for a terminal and for JSON.

Enters: counts. Leaves: tables. Must not know: how events are read and joined.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.terminal import printable

# labels of a facet, in alphabetical order; None: it abstained
Labels: TypeAlias = tuple[str, ...] | None

WIDEST = 60  # characters of a name that another program may have written


@dataclass(frozen=True, slots=True)
class Move:
    """So many records went from these labels to those."""

    before: Labels
    after: Labels
    records: int


@dataclass(frozen=True, slots=True)
class FacetChange:
    """What became of one facet in records that both sides hold.

    `compared` = `unchanged` + `changed` + `newly_abstained` + `no_longer_abstained`. `only_old`, `only_new`: records
    whose event has this facet on one side. `moves`: the most frequent ones.
    """

    name: str
    compared: int
    unchanged: int
    changed: int
    newly_abstained: int
    no_longer_abstained: int
    only_old: int
    only_new: int
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class RouteMove:
    """So many records went from these routes to those; none: the stream's own output."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    records: int


@dataclass(frozen=True, slots=True)
class SideFacts:
    """What was found of one side: records of the range, more events of the same records, messages that are no labelled
    events; and how many records each label-set version and model labelled (the most frequent)."""

    records: int
    repeated: int
    foreign: int
    versions: dict[str, int]
    models: dict[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    """Old events against new ones."""

    old: SideFacts
    new: SideFacts
    compared: int
    only_old: int
    only_new: int
    rerouted: int
    facets: tuple[FacetChange, ...]
    routes: tuple[RouteMove, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def show_report(console: Console, report: Report) -> None:
    """Tables of what changed, after a few lines that say what was compared with what."""
    for name, side in (("old", report.old), ("new", report.new)):
        line = f"{name}: {side.records:,} records, label set {_counts(side.versions)}, model {_counts(side.models)}"
        more = [f"{side.repeated:,} repeated"] if side.repeated else []
        more += [f"{side.foreign:,} messages that are no labelled events"] if side.foreign else []
        _say(console, ", ".join([line, *more]))
    _say(
        console,
        f"on both sides: {report.compared:,}; only old: {report.only_old:,}; only new: {report.only_new:,}; "
        f"other route: {report.rerouted:,}",
    )
    if report.facets:
        console.print(_facets(report))
    moves = _moves(report)
    if moves.row_count:
        console.print(moves)


def _facets(report: Report) -> Table:
    table = Table(title="facets", header_style="bold", title_justify="left")
    table.add_column("facet")
    headings = (
        "compared", "unchanged", "changed", "newly abstained", "no longer abstained", "only old", "only new"
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right")
    for one in report.facets:
        numbers = (
            one.compared, one.unchanged, one.changed, one.newly_abstained, one.no_longer_abstained,
            one.only_old, one.only_new,
        )  # fmt: skip
        table.add_row(Text(printable(one.name, WIDEST)), *(f"{number:,}" for number in numbers))
    return table


def _moves(report: Report) -> Table:
    table = Table(title="most frequent changes", header_style="bold", title_justify="left")
    for heading in ("of", "from", "to"):
        table.add_column(heading)
    table.add_column("records", justify="right")
    for facet in report.facets:
        for move in facet.moves:
            table.add_row(
                Text(printable(facet.name, WIDEST)),
                Text(_labels(move.before)),
                Text(_labels(move.after)),
                f"{move.records:,}",
            )
    for route in report.routes:
        table.add_row("route", Text(_routes(route.before)), Text(_routes(route.after)), f"{route.records:,}")
    return table


def _labels(labels: Labels) -> str:
    if labels is None:
        return "(abstained)"
    return printable(", ".join(labels), WIDEST) or "(none)"


def _routes(routes: tuple[str, ...]) -> str:
    return printable(", ".join(routes), WIDEST) or "(output)"


def _counts(found: dict[str, int]) -> str:
    if len(found) == 1:
        return printable(next(iter(found)), WIDEST)
    return ", ".join(f"{printable(name, WIDEST)} ({records:,})" for name, records in found.items()) or "none"


def _say(console: Console, line: str) -> None:
    console.print(Text(line))
