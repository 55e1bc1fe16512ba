"""An Explanation as people and programs read it.

Enters: an Explanation, or what the command line says of one. Leaves: tables in which nothing that a record holds can
act, or one line of ASCII JSON. Must not know: how it came about.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.check.explain import ExplainedFacet, ExplainedRoute, Explanation, explain_file
from streamer.errors import UsageError
from streamer.facets import Kind
from streamer.records import Reject
from streamer.settings import Settings
from streamer.terminal import printable

SHOWN_CHARACTERS = 500
SHOWN_LABELS = 20  # of a facet, in a table for people


def run_explain(
    settings: Settings, *, source: Path | None, topic: str | None, stdin: BinaryIO, console: Console, as_json: bool
) -> None:
    """`streamer check --explain` as a whole; `source` `-` is `stdin`. Raises UsageError."""
    if source is None:
        raise UsageError("--topic and --json go with --explain FILE, which shows what one record would get")
    explanation = explain_file(settings, source=source, topic=topic, stdin=stdin)
    if as_json:
        print(explanation_json(explanation))  # not through the console, which wraps lines
    else:
        show_explanation(console, explanation)


def show_explanation(console: Console, one: Explanation) -> None:
    """Text, facets, routes and destination, in the order of the road."""
    stamp = f"label set '{one.label_set.name}', version {one.label_set.version}; model {_model(one)}"
    console.print(Text(f"A record of topic '{one.stream.topic}', {stamp}"))
    if one.text is not None:
        console.print(Text("text, as the model reads it", style="bold"))
        console.print(Text(printable(one.text, SHOWN_CHARACTERS)))
        console.print(Text(_extent(one), style="dim"))
    if one.facets:
        console.print(_facet_table(one.facets))
    if one.routes:
        console.print(_route_table(one))
    if isinstance(one.outcome, Reject):
        console.print(Text(f"not labelled: {one.outcome.message} ({one.outcome.code})", style="red"))
        console.print(Text(f"→ dead letters: {one.messages[0].topic}", style="bold red"))
    for message in one.messages:
        if not message.dead_letter:
            own = "" if any(route.taken for route in one.routes) else ", the stream's own output"
            console.print(Text(f"→ {message.topic} ({len(message.value or b''):,} bytes{own})", style="bold green"))


def explanation_json(one: Explanation) -> str:
    """The same as one line of JSON; ASCII, so that nothing in it acts on a terminal."""
    out: dict[str, Any] = {
        "topic": one.stream.topic,
        "label_set": {"name": one.label_set.name, "version": one.label_set.version},
        "model": {"name": one.model.name, "revision": one.model.revision},
        "text": None if one.text is None else one.text[:SHOWN_CHARACTERS],
        "characters": None if one.text is None else len(one.text),
    }
    if isinstance(one.outcome, Reject):
        out["reject"] = {"code": one.outcome.code, "message": one.outcome.message}
    else:
        out["truncated"] = one.outcome.truncated
        out["facets"] = {facet.facet.name: _facet_dict(facet) for facet in one.facets}
        out["all_matching"] = one.label_set.all_matching
        out["routes"] = [_route_dict(route) for route in one.routes]
    out["to"] = [message.topic for message in one.messages]
    return json.dumps(out, ensure_ascii=True).replace("\x7f", "\\u007f")


def _model(one: Explanation) -> str:
    return f"{one.model.name}@{one.model.revision}"


def _extent(one: Explanation) -> str:
    characters = f"{len(one.text or ''):,} characters"
    if len(one.text or "") > SHOWN_CHARACTERS:
        characters += f", the first {SHOWN_CHARACTERS} are shown"
    if not isinstance(one.outcome, Reject) and one.outcome.truncated:
        characters += "; longer than the model's window: its beginning was labelled"
    return characters


def _facet_table(facets: tuple[ExplainedFacet, ...]) -> Table:
    table = Table(title=Text("facets", style="bold"), title_justify="left")
    for column in ("facet", "label"):
        table.add_column(column, overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("decided", overflow="fold")
    for one in facets:
        ranked = sorted(one.verdict.scores.items(), key=lambda item: -item[1])
        notes = [one.why, _limits(one)]
        for i, (label, score) in enumerate(ranked[:SHOWN_LABELS]):
            given = label in one.verdict.labels
            name = Text(f"{'✓' if given else ' '} {label}", style="bold green" if given else "dim")
            first = Text(f"{one.facet.name} ({one.facet.kind})" if i == 0 else "", style="bold")
            style = "yellow" if one.verdict.abstained else ""
            table.add_row(first, name, f"{score:.4f}", Text(notes[i] if i < len(notes) else "", style=style))
        if len(ranked) == 1:
            table.add_row("", "", "", Text(notes[1]))
        if len(ranked) > SHOWN_LABELS:
            table.add_row("", Text(f"  and {len(ranked) - SHOWN_LABELS:,} more", style="dim"), "", "")
        table.add_section()
    return table


def _limits(one: ExplainedFacet) -> str:
    threshold = f"threshold {one.facet.threshold:g}, " if one.facet.kind is Kind.MULTI else ""
    return f"{threshold}min_score {one.facet.min_score:g}, margin {one.margin:.4f} (min {one.facet.min_margin:g})"


def _route_table(one: Explanation) -> Table:
    rule = "every rule that holds counts" if one.label_set.all_matching else "the first rule that holds wins"
    table = Table(title=Text(f"routes: {rule}", style="bold"), title_justify="left")
    for column in ("", "rule", "holds", "why", "to"):
        table.add_column(column, overflow="fold")
    for i, explained in enumerate(one.routes):
        route = explained.route
        least = f", score {route.score:g} or more" if route.score else ""
        table.add_row(
            str(i),
            Text(f"{route.facet}: {'abstained' if route.label is None else route.label}{least}"),
            Text("✓ yes" if explained.holds else "no", style="green" if explained.taken else "dim"),
            Text(explained.why),
            Text(route.to, style="bold green" if explained.taken else "dim"),
        )
    return table


def _facet_dict(one: ExplainedFacet) -> dict[str, Any]:
    facet = one.facet
    return {
        "kind": str(facet.kind),
        "labels": list(one.verdict.labels),
        "abstained": one.verdict.abstained,
        "why": one.why,
        "scores": {label: round(score, 4) for label, score in one.verdict.scores.items()},
        "margin": round(one.margin, 4),
        "threshold": facet.threshold if facet.kind is Kind.MULTI else None,
        "min_score": facet.min_score,
        "min_margin": facet.min_margin,
    }


def _route_dict(one: ExplainedRoute) -> dict[str, Any]:
    route = one.route
    asked = {"abstained": True} if route.label is None else {"label": route.label, "score": route.score}
    return {
        "when": {"facet": route.facet, **asked},
        "to": route.to,
        "holds": one.holds,
        "taken": one.taken,
        "why": one.why,
    }
