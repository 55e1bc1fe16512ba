"""The alerts: what each fires on and what not, by promtool; they name metrics that exist, and tell people enough."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from load_tests.watched import ALERTS
from tests.deploy.promql import asked_for, exported_metrics, unknown
from tests.tools import require_tool

CASES = Path(__file__).parent / "alerts_test.yaml"
GROUPS = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
BY_NAME = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"]: asked_for(rule["expr"]).grouping for rule in RULES if "record" in rule}
KNOWN = {**exported_metrics(), **RECORDED}


def promtool(*arguments: str, given: bytes = b"") -> tuple[int, str]:
    done = subprocess.run([require_tool("promtool"), *arguments], input=given, capture_output=True, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def test_prometheus_takes_the_rules() -> None:
    code, told = promtool("check", "rules", str(ALERTS))
    assert code == 0, told


def test_alerts_fire_when_they_should_and_only_then() -> None:
    code, told = promtool("test", "rules", str(CASES))
    assert code == 0, told


def test_each_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    asked = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["promql_expr_test"]]
    fires = {name for name in BY_NAME for case in asked if f'"{name}"' in case["expr"] and case["exp_samples"]}
    silent = {name for name in BY_NAME for case in asked if f'"{name}"' in case["expr"] and not case["exp_samples"]}
    beside = {"StreamerRejects", "StreamerCommitsFailing", "StreamerBaselineDrift"}  # of two series one fires
    assert fires == BY_NAME.keys()
    assert silent | beside >= BY_NAME.keys()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_what_is_exported(rule: dict[str, Any]) -> None:
    assert unknown(rule["expr"], KNOWN) == []


@pytest.mark.parametrize("name", BY_NAME)
def test_an_alert_tells_how_bad_what_and_where_to_read_on(name: str) -> None:
    rule = BY_NAME[name]
    about = rule["annotations"]
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(about) == {"summary", "description", "runbook_url"}
    assert len(about["summary"]) < 100
    assert re.search(r"\d|\$value", about["description"]) or "last good" in about["description"]
    assert about["runbook_url"] == f"deploy/README.md#{name.lower()}"
    labels = set(re.findall(r"\$labels\.(\w+)", about["summary"] + about["description"]))
    asked = asked_for(rule["expr"])
    there = {"job", "instance", *asked.grouping}
    for metric in asked.metrics:
        there |= KNOWN.get(metric, frozenset())
    assert labels <= there


def test_each_alert_has_a_heading_in_the_guide() -> None:
    guide = (ALERTS.parents[3] / "README.md").read_text(encoding="utf-8")
    headings = {line.lstrip("# ").strip() for line in guide.splitlines() if line.startswith("#")}
    assert BY_NAME.keys() <= headings
