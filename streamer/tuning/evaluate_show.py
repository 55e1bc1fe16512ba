"""An evaluation of labelled records on a terminal.

Enters: a RecordsEvaluation. Leaves: tables. Must not know: how anything was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.tuning.evaluate_result import Comparison, FacetResult, RecordsEvaluation, Side
from streamer.tuning.evaluate_words import (
    LABEL_HEADINGS,
    average_rows,
    coverage_rows,
    difference_rows,
    facet_head,
    given,
    head,
    label_rows,
    name,
    remarks,
    sides,
    summary_rows,
    verdict,
    worst_confusions,
)

MOST_LABELS = 60  # rows of a table for people
MOST_CONFUSIONS = 10


def show_records(console: Console, result: RecordsEvaluation) -> None:
    """What was evaluated, tables for each facet, and what another side makes of it."""
    console.print(Text(head(result), style="bold"))
    for remark in remarks(result):
        console.print(Text(remark, style="yellow"))
    for facet in result.facets:
        _show_facet(console, facet)
    console.print(Text(f"95 %: bootstrap over {result.resamples:,} resamples of the records, seed {result.seed}"))
    if result.comparison is not None:
        _show_comparison(console, result.comparison, result.side)


def _show_facet(console: Console, facet: FacetResult) -> None:
    console.print(_table(facet_head(facet), ("", "value", "95 %"), summary_rows(facet)))
    headings = LABEL_HEADINGS + (() if facet.mean_average_precision is None else ("AP",))
    rows = list(label_rows(facet))
    table = _table("labels", headings, rows[:MOST_LABELS])
    table.add_section()
    for row in average_rows(facet):
        table.add_row(*row)
    console.print(table)
    if len(rows) > MOST_LABELS:
        console.print(Text(f"and {len(rows) - MOST_LABELS} more labels; --report or --json has all of them"))
    confused = worst_confusions(facet, MOST_CONFUSIONS)
    if confused:
        cells = ((name(one.right), given(one), f"{one.records:,}") for one in confused)
        console.print(_table("most frequent mistakes", ("right", "given", "records"), cells, left=2))
    headings = ("setting", "at", "answered", "accuracy of answers")
    console.print(_table("abstention: what it would bring", headings, coverage_rows(facet)))


def _show_comparison(console: Console, comparison: Comparison, new: Side) -> None:
    for line in sides(comparison, new):
        console.print(Text(line, style="bold"))
    for one in comparison.facets:
        headings = ("figure", "old", "new", "change", "95 % of the change", "real")
        console.print(_table(name(one.facet), headings, difference_rows(one.differences)))
        real = [label for label in one.labels if label.real]
        if real:
            console.print(
                _table("labels whose F1 differs, each judged alone", headings, _labels(difference_rows(tuple(real))))
            )
        for line in verdict(one):
            console.print(Text(line, style="bold"))
    for facet in comparison.left_out:
        console.print(Text(f"facet {name(facet)}: not in both with the same labels; not compared", style="yellow"))


def _labels(rows: Iterable[tuple[str, ...]]) -> Iterable[tuple[str, ...]]:
    return ((name(first), *rest) for first, *rest in rows)


def _table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Table:
    """The first `left` columns hold words, the others figures."""
    table = Table(title=Text(title), header_style="bold", title_justify="left")
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
