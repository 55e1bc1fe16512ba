"""From a directory to a model in memory: safetensors only, unknown architectures refused by name.

Must not know: label sets, batching, Kafka.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from streamer.engine.independent import ARCHITECTURE, IndependentConfig, IndependentLabelModel
from streamer.errors import UsageError

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"


def read_config(directory: Path) -> dict[str, Any]:
    """The parsed config.json; raises UsageError where it is missing or no JSON object."""
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"{path}: not found; a model directory holds {CONFIG}, {WEIGHTS} and {TOKENIZER}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error})") from None
    if not isinstance(config, dict):
        raise UsageError(f"{path}: a JSON object is needed")
    return config


def weights_revision(directory: Path) -> str:
    """First 12 hex digits of the SHA-256 of the weights: what an event is stamped with."""
    with (directory / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def load_independent(directory: Path) -> IndependentLabelModel:
    """Load a model of the bundled architecture in float32, in evaluation mode."""
    config = read_config(directory)
    if config.get("architecture_type") != ARCHITECTURE:
        raise UsageError(f"{directory / CONFIG}: architecture_type is not '{ARCHITECTURE}'")
    model = IndependentLabelModel(
        IndependentConfig(**{key: config[key] for key in IndependentConfig.__dataclass_fields__})
    )
    model.load_state_dict(load_file(directory / WEIGHTS))
    return model.float().eval()


def save_independent(model: IndependentLabelModel, directory: Path, *, tokenizer: str, dtype: torch.dtype) -> None:
    """Write config, weights and tokenizer; `tokenizer` is the text of a tokenizer.json."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {"architecture_type": ARCHITECTURE, **asdict(model.config)}
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (directory / TOKENIZER).write_text(tokenizer, encoding="utf-8")
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.state_dict().items()}
    save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})
