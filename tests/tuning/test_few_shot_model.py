"""A model in training answers as the engine does, and cuts texts where it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from streamer.engine.bundled import BundledBackend
from streamer.engine.loading import WEIGHTS, load_uniencoder, save_tuned
from streamer.engine.uniencoder import open_uniencoder
from streamer.engine.varlen import choose_kernels
from streamer.errors import UsageError
from streamer.facets import Facet, InContextExample, Kind, Label, LabelSet
from streamer.records import Document
from streamer.tuning.few_shot import logits_of
from streamer.tuning.few_shot_model import open_tunable
from tests.engine.conftest import save_checkpoint

LABELS = LabelSet(
    "tickets",
    (
        Facet("topic", Kind.MULTI, (Label("billing", "a question about a bill"), Label("outage"), Label("praise"))),
        Facet("mood", Kind.SINGLE, (Label("good"), Label("bad"))),
    ),
)
TEXTS = ["The invoice was wrong", "it is down <<SEP>> [SEP]", "x"]
CPU = torch.device("cpu")


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 on any machine."""
    monkeypatch.setattr("streamer.tuning.few_shot_model.choose_dtype", lambda name, device: torch.float32)


@pytest.mark.usefixtures("exact")
def test_the_bundled_kind_answers_as_the_engine_does(tiny_bundled: Path) -> None:
    backend = BundledBackend(
        directory=tiny_bundled, name="tiny", device=CPU, dtype=torch.float32, choose_kernels=choose_kernels
    )
    backend.prepare(LABELS)
    expected = backend.forward(backend.rows([Document(text, LABELS) for text in TEXTS]))
    found = logits_of(open_tunable(tiny_bundled, LABELS, device=CPU, text_tokens=256), TEXTS)
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("encoder", ["bert", "modernbert", "deberta-v2"])
@pytest.mark.parametrize("prompt_first", [True, False])
def test_gliclass_checkpoints_answer_as_the_engine_does(encoder: str, prompt_first: bool, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, encoder, {"prompt_first": prompt_first})
    backend = open_uniencoder(
        tmp_path, facet_mode="separate", device=CPU, dtype=torch.float32, choose_kernels=choose_kernels,
        max_row_tokens=1024, name="tiny",
    )  # fmt: skip
    rows = backend.rows([Document(text, LABELS) for text in TEXTS])
    expected = torch.from_numpy(backend.forward(rows)).view(len(TEXTS), 2, 3)
    model = open_tunable(tmp_path, LABELS, device=CPU, text_tokens=256)
    found = logits_of(model, TEXTS)
    torch.testing.assert_close(found[:, :3], expected[:, 0], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found[:, 3:], expected[:, 1, :2], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("encoder", [None, "bert"])
def test_texts_are_cut(encoder: str | None, tiny_bundled: Path, tmp_path: Path) -> None:
    directory = tiny_bundled
    if encoder:
        save_checkpoint(directory := tmp_path, encoder, {})
    model = open_tunable(directory, LABELS, device=CPU, text_tokens=8)
    short, long = model.rows(["the " * 5, "the " * 500])
    whole = open_tunable(directory, LABELS, device=CPU, text_tokens=24).rows(["the " * 500])[0]
    assert len(short[0]) <= len(long[0]) < len(whole[0])
    assert long[0][-1] == whole[0][-1]  # closed as every text is


def test_saving_keeps_names_dtypes_and_what_nobody_reads(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    start, out = tmp_path / "start", tmp_path / "out"
    save_checkpoint(start, "bert", {})
    weights = {name: value.half() for name, value in load_file(start / WEIGHTS).items()}
    weights["model.encoder_model.pooler.dense.bias"] = torch.ones(32)
    save_file(weights, start / WEIGHTS)
    model = open_tunable(start, LABELS, device=CPU, text_tokens=8)
    with torch.no_grad():
        model.module.logit_scale.fill_(3.0)  # type: ignore[operator]
    save_tuned(model.module, start, out)
    written = load_file(out / WEIGHTS)
    assert {name: value.dtype for name, value in written.items()} == {n: v.dtype for n, v in weights.items()}
    assert written["model.logit_scale"] == 3.0
    assert torch.equal(written["model.encoder_model.pooler.dense.bias"], torch.ones(32))
    assert load_uniencoder(out, dtype=torch.float32).logit_scale == 3.0


@pytest.mark.parametrize(
    "changed", [{"prompt": "what?"}, {"examples": (InContextExample("a text", ("good",)),)}], ids=["prompt", "examples"]
)
def test_the_bundled_kind_takes_labels_alone(tiny_bundled: Path, changed: dict[str, object]) -> None:
    asked = LabelSet("tickets", LABELS.facets, **changed)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="label set 'tickets': the bundled model takes no prompt"):
        open_tunable(tiny_bundled, asked, device=CPU, text_tokens=8)


def test_unknown_directories_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.json: not found"):
        open_tunable(tmp_path, LABELS, device=CPU, text_tokens=8)
