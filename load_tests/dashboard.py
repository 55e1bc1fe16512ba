"""The Grafana dashboard's file, read as queries.

Enters: dashboard.json. Leaves: panels with their queries, whose variables stand for everything there is. Must not know:
where queries are asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parents[1] / "deploy" / "helm" / "streamer" / "files" / "dashboard.json"


@dataclass(frozen=True, slots=True)
class Query:
    """`legend` names each series, with `{{label}}` for the value of a label."""

    legend: str
    expr: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel, or one copy of a panel that is repeated; `shape` is Grafana's word for its kind."""

    row: str
    title: str
    shape: str
    unit: str
    stacked: bool
    queries: tuple[Query, ...]


def read_dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return content


def panels(*, rate_s: int, facets: tuple[str, ...]) -> list[Panel]:
    """All panels in their order. Rates are over `rate_s` seconds; what is repeated by facet stands there for each."""
    found: list[Panel] = []
    row = ""
    everything = dict.fromkeys(("namespace", "job", "instance", "topic"), ".*")
    for one in read_dashboard()["panels"]:
        if one["type"] == "row":
            row = one["title"]
            continue
        for facet in facets if one.get("repeat") == "facet" else ("",):
            values = {**everything, "facet": facet, "__rate_interval": f"{rate_s}s"}
            found.append(_panel(row, one, values))
    return found


def _panel(row: str, one: Mapping[str, Any], values: Mapping[str, str]) -> Panel:
    defaults = one["fieldConfig"]["defaults"]
    return Panel(
        row=row,
        title=_filled(one["title"], values),
        shape=one["type"],
        unit=defaults.get("unit", ""),
        stacked="stacking" in defaults.get("custom", {}),
        queries=tuple(Query(target["legendFormat"], _filled(target["expr"], values)) for target in one["targets"]),
    )


def _filled(text: str, values: Mapping[str, str]) -> str:
    for name in sorted(values, key=len, reverse=True):  # a name may begin as a shorter one does
        text = text.replace(f"${name}", values[name])
    return text
