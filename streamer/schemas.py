"""JSON Schemas of settings, inputs and events, made from the models: `python -m streamer.schemas DIRECTORY`.

Enters: the pydantic models. Leaves: one file each. A test holds the committed files to what this writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from streamer.calibration import CalibrationFile
from streamer.events import Correction, DeadLetterHeaders, LabelledEvent, Post, Ticket
from streamer.settings import Settings
from streamer.shadow.event import ShadowEvent

MODELS: dict[str, type[BaseModel]] = {
    "settings": Settings,
    "calibration": CalibrationFile,
    "ticket": Ticket,
    "post": Post,
    "labelled-event": LabelledEvent,
    "correction": Correction,
    "shadow-event": ShadowEvent,
    "dead-letter-headers": DeadLetterHeaders,
}


def json_schemas() -> dict[str, str]:
    """File name -> text of every schema."""
    out = {}
    for name, model in MODELS.items():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
        out[f"{name}.schema.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return out


def write_schemas(directory: Path) -> None:
    """Write every schema into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in json_schemas().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
