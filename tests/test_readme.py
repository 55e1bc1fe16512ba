"""What the README shows is what the program takes and gives."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import orjson
import yaml

from streamer.events import LabelledEvent
from streamer.settings import build_settings

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_settings_are_valid() -> None:
    settings = build_settings(yaml.safe_load(block("yaml")), origin="README.md")
    assert [stream.topic for stream in settings.streams] == ["tickets.raw"]


def test_the_event_satisfies_its_schema() -> None:
    jsonschema.validate(orjson.loads(block("json")), LabelledEvent.model_json_schema())
