"""The state of an unfinished training run: one file, written beside and renamed when whole.

Enters: tensors by name and what JSON can hold. Leaves: a .safetensors file that carries both, and never pickle, so
that reading one runs nothing. Must not know: models, optimizers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from streamer.errors import UsageError

_KEY: Final = "training"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`facts` is a JSON object; tensors lie on the CPU."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the file in one step: a run killed while it writes leaves the one before."""
    beside = path.with_name(path.name + ".partial")
    tensors = {name: value.detach().to("cpu").contiguous() for name, value in checkpoint.tensors.items()}
    save_file(tensors, beside, metadata={_KEY: json.dumps(checkpoint.facts)})
    os.replace(beside, path)


def read_checkpoint(path: Path, *, about: Mapping[str, str]) -> Checkpoint:
    """Read a run's state back. `about` is what the run is of, each with a name for the message.

    Raises UsageError where there is none, where it is broken, and where it is of another run.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no unfinished run; leave out --resume to begin one")
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: not the state of a run ({reason}); remove it and begin anew") from None
    for name, value in about.items():
        if facts["about"].get(name) != value:
            raise UsageError(f"{path}: of a run with other {name}; repeat its command, or remove it and begin anew")
    return Checkpoint(facts, tensors)
