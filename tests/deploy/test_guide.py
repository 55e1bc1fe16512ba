"""What the operator's guide says is there: alerts, commands, metrics, settings, chart values, links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from pydantic import BaseModel
from typer.core import TyperGroup

from streamer.cli import app
from streamer.dlq.codes import EXPLANATIONS
from streamer.settings import KafkaSettings, Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
PAGES = (DEPLOY / "README.md", DEPLOY / "capacity.md")
GUIDE = PAGES[0].read_text(encoding="utf-8")
ALL = "".join(page.read_text(encoding="utf-8") for page in PAGES)
ALERTS = yaml.safe_load((DEPLOY / "helm/streamer/files/alerts.yaml").read_text(encoding="utf-8"))
METRICS = (DEPLOY / "metrics.md").read_text(encoding="utf-8")
VALUES = yaml.safe_load((DEPLOY / "helm/streamer/values.yaml").read_text(encoding="utf-8"))
PARTS = ("Means", "Look at", "Do", "Let it be")


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in ALERTS["groups"] for rule in group["rules"] if "alert" in rule}


def runbook() -> dict[str, str]:
    """Heading -> entry, of the runbook alone."""
    chapter = GUIDE.split("\n## Runbook\n")[1].split("\n## ")[0]
    entries = chapter.split("\n### ")[1:]
    return dict(entry.split("\n", 1) for entry in entries)


def test_each_alert_has_its_entry_and_leads_to_it() -> None:
    assert list(runbook()) == list(alerts())
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook_url"].endswith(f"deploy/README.md#{name.lower()}")


def test_each_entry_says_all_there_is_to_know() -> None:
    for name, entry in runbook().items():
        assert [part for part in PARTS if f"\n**{part}** " in entry] == list(PARTS), name


def fenced(language: str) -> list[str]:
    """Blocks of a language, without the indentation that a list gives them."""
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^\1```", ALL, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in blocks]


def commands() -> list[str]:
    """Lines of blocks that call streamer."""
    return [line for block in fenced("sh") for line in block.splitlines() if line.startswith("streamer ")]


def parse(line: str, *, complete: bool) -> None:
    """Raises TyperException for an option that is not there, and where something that is needed is not given (unless
    `complete`, that may be left out), KeyError for a verb that is not there."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while isinstance(command, TyperGroup) and words:
        command, words = command.commands[words[0]], words[1:]
    command.make_context("streamer", words, resilient_parsing=not complete)


@pytest.mark.parametrize("line", commands())
def test_commands_of_blocks_are_taken_as_they_stand(line: str) -> None:
    parse(line, complete=True)


def test_commands_in_the_text_name_verbs_and_options_that_are_there() -> None:
    named = re.findall(r"`(streamer [a-z][^`]*)`", ALL)
    assert len(named) > 10
    for line in named:
        parse(line.removesuffix(" FILE"), complete=False)


def test_a_command_that_is_not_there_is_found_out() -> None:
    for line in ("streamer rum", "streamer dlq lst", "streamer run --confg x", "streamer run"):
        with pytest.raises((KeyError, typer.TyperException)):
            parse(line, complete=True)


def test_metrics_are_exported() -> None:
    kinds = dict(re.findall(r"^\| `(streamer_[a-z_]+)` \| (\w+) \|", METRICS, re.MULTILINE))
    series = set(kinds) | {
        f"{name}_{part}" for name, kind in kinds.items() if kind == "histogram" for part in ("bucket", "sum", "count")
    }
    named = set(re.findall(r"\bstreamer_[a-z_]*[a-z]\b", ALL))
    assert len(named) > 15
    assert named - series == set()


def setting(path: str) -> bool:
    """Whether the settings have this place."""
    model: Any = Settings
    for name in path.split("."):
        fields = model.model_fields
        if name not in fields:
            return False
        annotation = fields[name].annotation
        models = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type)]
        model = next((one for one in models if issubclass(one, BaseModel)), BaseModel)
    return True


def test_settings_are_there() -> None:
    tops = "|".join(Settings.model_fields)
    named = set(re.findall(rf"`((?:{tops})(?:\.[a-z_]+)+)(?:: [^`]*)?`", ALL))
    assert len(named) > 20
    assert {path for path in named if not setting(path)} == set()


def chart_value(path: str) -> bool:
    """Whether the chart has this value; maps that it leaves empty may hold anything."""
    at: Any = VALUES
    for name in path.split("."):
        if not isinstance(at, dict) or (at and name not in at):
            return False
        at = at.get(name, {})
    return True


def test_values_of_the_chart_are_there() -> None:
    tops = "|".join(set(VALUES) - set(Settings.model_fields) - {"config"})
    named = set(re.findall(rf"`((?:{tops})(?:\.[A-Za-z_]+)+)(?:: [^`]*)?`", ALL))
    assert len(named) > 8
    assert {path for path in named if not chart_value(path)} == set()


def test_codes_of_dead_letters_are_known() -> None:
    named = set(re.findall(r"--code (\w+)", ALL)) | set(re.findall(r"code `(\w+)`", ALL))
    assert named
    assert named <= set(EXPLANATIONS)


def test_settings_in_blocks_are_valid() -> None:
    blocks = [yaml.safe_load(block) for block in fenced("yaml")]
    assert blocks
    for block in blocks:
        KafkaSettings.model_validate(block["kafka"])


def anchors(page: Path) -> set[str]:
    """Where links into a page may lead, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, DEPLOY / "kafka" / "acls.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target
