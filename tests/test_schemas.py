"""The committed schemas are what the models say, and the demo's records satisfy them."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import orjson
import pytest

from streamer.events import Post, Ticket
from streamer.schemas import json_schemas

ROOT = Path(__file__).parents[1]


def test_committed_schemas_are_current() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "schemas").glob("*.json")}
    assert committed == json_schemas(), "run `make schemas`"


@pytest.mark.parametrize("text", json_schemas().values(), ids=json_schemas().keys())
def test_schemas_are_valid(text: str) -> None:
    jsonschema.Draft202012Validator.check_schema(orjson.loads(text))


@pytest.mark.parametrize(("name", "model"), [("tickets", Ticket), ("posts", Post)])
def test_demo_records_satisfy_their_schema(name: str, model: type[Ticket] | type[Post]) -> None:
    validator = jsonschema.Draft202012Validator(model.model_json_schema())
    lines = (ROOT / "streamer" / "demo" / f"{name}.jsonl").read_bytes().splitlines()
    assert len(lines) >= 120
    for line in lines:
        validator.validate(orjson.loads(line))
