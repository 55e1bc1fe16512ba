"""What a replay changed, on a terminal."""

from __future__ import annotations

import io

import orjson
from rich.console import Console

from streamer.replay.report import WIDEST, FacetChange, Move, Report, RouteMove, SideFacts, show_report

ODD = "[red]x[/red]\x1b[2J\n" + "y" * 200
REPORT = Report(
    old=SideFacts(1200, 3, 2, {"v1": 1100, "v0": 100}, {"bundled@1": 1200}),
    new=SideFacts(1000, 0, 0, {"v2": 1000}, {"bundled@1": 1000}),
    compared=990,
    only_old=210,
    only_new=10,
    rerouted=7,
    facets=(
        FacetChange("topic", 990, 900, 60, 20, 10, 0, 0, (Move(("bill", "outage"), (), 60), Move(("bill",), None, 20))),
        FacetChange(ODD, 1, 0, 1, 0, 0, 0, 0, (Move((ODD,), ("z",), 1),)),
    ),
    routes=(RouteMove((), ("tickets.billing",), 7),),
)


def shown(report: Report) -> str:
    file = io.StringIO()
    show_report(Console(file=file, width=250), report)
    return file.getvalue()


def test_figures_and_changes_are_shown() -> None:
    text = shown(REPORT)
    lines = [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]
    assert "old: 1,200 records, label set v1 (1,100), v0 (100), model bundled@1, 3 repeated, " in text
    assert "2 messages that are no labelled events" in text
    assert "on both sides: 990; only old: 210; only new: 10; other route: 7" in text
    assert "topic 990 900 60 20 10 0 0" in lines
    assert "topic bill, outage (none) 60" in lines
    assert "topic bill (abstained) 20" in lines
    assert "route (output) tickets.billing 7" in lines


def test_names_of_other_programs_are_bounded_and_harmless() -> None:
    text = shown(REPORT)
    assert "\x1b" not in text
    assert "[red]x[/red]" in text
    assert "y" * WIDEST not in text


def test_sides_without_events_show_no_tables() -> None:
    nothing = SideFacts(0, 0, 0, {}, {})
    text = shown(Report(nothing, nothing, 0, 0, 0, 0, (), ()))
    assert "old: 0 records, label set none, model none" in text
    assert "facet" not in text


def test_it_is_json_too() -> None:
    told = orjson.loads(orjson.dumps(REPORT.as_dict()))
    assert told["facets"][0]["moves"][1] == {"before": ["bill"], "after": None, "records": 20}
    assert told["old"]["versions"] == {"v1": 1100, "v0": 100}
