"""The dashboard: every query asks for what is exported, and a real Prometheus that watches a real run answers it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from load_tests.dashboard import Panel, panels, read_dashboard
from load_tests.watched import Prometheus, watched
from tests.deploy.promql import asked_for, exported_metrics, unknown
from tests.tools import require_tool

BOARD = read_dashboard()
PANELS: list[dict[str, Any]] = [one for one in BOARD["panels"] if one["type"] != "row"]
EXPORTED = exported_metrics()
VARIABLES = {one["name"]: one for one in BOARD["templating"]["list"]}
FACETS = ("sentiment", "topic", "event_type")
WAIT_S = 60.0
# needs a device with memory of its own
NOT_HERE = {"streamer_device_memory_bytes"}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with watched(
        tmp_path_factory.mktemp("watched"),
        program=require_tool("prometheus"),
        scrape_s=1,
        model="fake",
        rate_at=lambda at_s: 400.0 if at_s < 2 else 40.0,  # first more than the shadow takes
    ) as prometheus:
        yield prometheus


def asked(panel: Panel, prometheus: Prometheus) -> list[str]:
    """Queries of a panel that find nothing."""
    return [f"{panel.row} / {panel.title}: {one.expr}" for one in panel.queries if not prometheus.instant(one.expr)]


@pytest.mark.timeout(240)
def test_every_query_finds_something(seen: Prometheus) -> None:
    ours = [
        panel
        for panel in panels(rate_s=30, facets=FACETS)
        if not NOT_HERE & {name for query in panel.queries for name in asked_for(query.expr).metrics}
    ]
    assert len(ours) == len(PANELS) - 1 + len(FACETS) - 1
    deadline_s = time.monotonic() + WAIT_S
    while empty := [query for panel in ours for query in asked(panel, seen)]:
        assert time.monotonic() < deadline_s, empty
        time.sleep(1)


def test_every_rule_is_evaluated(seen: Prometheus) -> None:
    rules = [rule for group in seen.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}, [rule for rule in rules if rule["health"] != "ok"]
    assert len(rules) > 15


def test_every_metric_that_is_exported_is_in_the_table(seen: Prometheus) -> None:
    """And the other way round, but for what this machine or a good run lacks."""
    known = EXPORTED
    found = {name for name in seen.ask("label/__name__/values") if name.startswith("streamer_")}
    assert found <= known.keys()
    assert known.keys() - found == NOT_HERE
    for name in found:
        for series in seen.instant(name)[:1]:
            assert series["metric"].keys() - {"__name__", "job", "instance"} == known[name]


def test_variables_have_values(seen: Prometheus) -> None:
    for name in ("job", "instance", "topic", "facet"):
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", VARIABLES[name]["definition"])
        assert found is not None
        selector = re.sub(r"\$\w+", ".*", found[1])
        assert {series["metric"].get(found[2]) for series in seen.instant(selector)} - {None}, name


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_is_exported(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert unknown(target["expr"], EXPORTED) == []
        legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        found = asked_for(target["expr"])
        there = found.grouping.union({"job", "instance"}, *(EXPORTED.get(one, ()) for one in found.metrics))
        assert legend <= there


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_is_told_apart_and_explained(panel: dict[str, Any]) -> None:
    assert panel["description"]
    assert panel["title"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert set(re.findall(r"\$(\w+)", target["expr"])) <= {*VARIABLES, "__rate_interval"}
        for name in asked_for(target["expr"]).metrics:
            assert asked_for(target["expr"]).metrics[name] >= {"namespace", "job", "instance"}, name


def test_panels_lie_side_by_side() -> None:
    places: set[tuple[int, int]] = set()
    assert len({one["id"] for one in BOARD["panels"]}) == len(BOARD["panels"])
    for one in BOARD["panels"]:
        at = one["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & places, one["title"]
        places |= cells


def test_the_data_source_is_the_users_choice() -> None:
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert "__inputs" not in BOARD
    assert (BOARD["uid"], BOARD["title"]) == ("streamer", "streamer")
    assert "id" not in BOARD


def test_the_limits_shown_are_those_of_the_alerts() -> None:
    rules = (Path(__file__).parents[2] / "deploy/helm/streamer/files/alerts.yaml").read_text(encoding="utf-8")
    shown = {
        one["title"]: [step["value"] for step in one["fieldConfig"]["defaults"]["thresholds"]["steps"]][1:]
        for one in PANELS
        if "thresholds" in one["fieldConfig"]["defaults"]
    }
    assert shown["Latency"] == shown["Latency, 95 %"] == [10]
    assert 'le="10.0"' in rules
    assert shown["Distance from the baseline"] == [0.2]
    assert 'language"} > 0.2' in rules
