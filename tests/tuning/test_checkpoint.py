"""The state of a run comes back as it was, and only to the run it is of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from streamer.errors import UsageError
from streamer.tuning.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

ABOUT = {"settings": "s", "examples": "e"}
FACTS = {"done": 3, "loss": 0.1 + 0.2, "about": ABOUT}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "state"
    weights = {"a/b": torch.randn(2, 3).t(), "step": torch.tensor(3.0)}
    write_checkpoint(path, Checkpoint({"done": 1}, {}))
    write_checkpoint(path, Checkpoint(FACTS, weights))
    found = read_checkpoint(path, about=ABOUT)
    assert found.facts == FACTS
    for name, value in weights.items():
        assert torch.equal(found.tensors[name], value)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(UsageError, match="no unfinished run; leave out --resume"):
        read_checkpoint(path, about=ABOUT)
    path.write_bytes(b"not a checkpoint at all")
    with pytest.raises(UsageError, match="not the state of a run") as caught:
        read_checkpoint(path, about=ABOUT)
    assert "\n" not in str(caught.value)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UsageError, match="not the state of a run"):
        read_checkpoint(path, about=ABOUT)
    write_checkpoint(path, Checkpoint(FACTS, {}))
    with pytest.raises(UsageError, match="of a run with other examples"):
        read_checkpoint(path, about={**ABOUT, "examples": "x"})
