"""Training learns, saves what it learned, and refuses what it cannot start from."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from streamer.engine.loading import CONFIG, TOKENIZER, WEIGHTS, load_independent
from streamer.errors import UsageError
from streamer.tuning.data import LabelledSet
from streamer.tuning.pretrain import run_pretrain
from streamer.tuning.recipe import Example, SetSource
from streamer.tuning.train import Trainer, TrainSettings, draw_batches, loss_of, start_model

LETTERS = ("alpha", "beta", "gamma", "delta")
TEXTS = LabelledSet(
    "letters",
    LETTERS,
    tuple(f"{name[0] * 4} {i}" for i in range(8) for name in LETTERS),
    tuple((name,) for _ in range(8) for name in LETTERS),
    False,
)


def settings(steps: int, **changed: float) -> TrainSettings:
    values: dict[str, float] = {
        "steps": steps, "stop_after": steps, "seed": 3, "window": 64, "encoder_rate": 3e-3, "head_rate": 3e-3,
        "warm_up_steps": 5, "text_tokens": 24, "label_tokens": 12, "fewest_labels": 4, "most_labels": 4,
    }  # fmt: skip
    return TrainSettings(**{**values, **changed})  # type: ignore[arg-type]


def trainer(start: Path, out: Path, one: TrainSettings) -> Trainer:
    return Trainer(start=start, sources=[SetSource(TEXTS, kind="", weight=1.0)], settings=one, device="cpu", out=out)


def test_training_overfits_32_texts_and_the_model_written_is_the_model_trained(
    tiny_bundled: Path, tmp_path: Path
) -> None:
    losses: list[float] = []
    one = trainer(tiny_bundled, tmp_path / "out", settings(160))
    one.run(lambda step, loss: losses.append(loss))
    assert losses[-1] < losses[0] / 3
    written = load_independent(tmp_path / "out")
    ids = torch.tensor([[2, 5, 6, 3]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.inference_mode():
        vectors = [model.encode_labels(ids, mask)[None] for model in (one.model, written)]
        logits = [m(ids, mask, v) for m, v in zip((one.model, written), vectors, strict=True)]
    torch.testing.assert_close(logits[0], logits[1], atol=0.1, rtol=0.02)  # weights are stored in half precision


def test_batches_are_decided_by_the_seed_alone() -> None:
    sources = [SetSource(TEXTS, kind="", weight=1.0)]

    def drawn(seed: int) -> list[list[Example]]:
        return list(islice(draw_batches(sources, settings(50, seed=seed)), 9))

    assert drawn(3) == drawn(3) != drawn(4)
    assert [len(batch) for batch in drawn(3)] == [32] * 9


def test_same_seed_same_weights(tiny_bundled: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        trainer(tiny_bundled, tmp_path / name, settings(3)).run(lambda step, loss: None)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()


def test_a_run_may_end_early(tiny_bundled: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    one = settings(50, stop_after=4, checkpoint_steps=2)
    trainer(tiny_bundled, tmp_path / "out", one).run(lambda step, loss: seen.append(step))
    assert seen == [4]
    assert json.loads((tmp_path / "out" / "training.json").read_text())["step"] == 4
    assert not list(tmp_path.glob("*.partial"))


def test_starts_from_a_plain_bert(tiny_bundled: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    trained = load_independent(tiny_bundled)
    BertModel(BertConfig(**trained.config.encoder), add_pooling_layer=False).save_pretrained(tmp_path)
    (tmp_path / TOKENIZER).write_text((tiny_bundled / TOKENIZER).read_text())
    fresh = start_model(tmp_path)
    assert fresh.config.query_position == trained.config.encoder["max_position_embeddings"] - 1


def test_refuses_another_architecture(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text('{"model_type": "gpt2"}')
    with pytest.raises(UsageError, match="model_type 'gpt2' cannot be trained"):
        start_model(tmp_path)


def test_refuses_to_overwrite_and_data_without_a_choice(tiny_bundled: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "a", "labels": ["only"]}\n')

    def run(out: Path) -> None:
        run_pretrain(
            console=Console(quiet=True), data=data, split=None, wordnet=None, written=None, start=tiny_bundled, out=out,
            device="cpu", settings=settings(1),
        )  # fmt: skip

    with pytest.raises(UsageError, match="exists and is not empty"):
        run(tmp_path)
    with pytest.raises(UsageError, match="at least two are needed"):
        run(tmp_path / "new")


def test_loss_ignores_slots_that_are_not_shown() -> None:
    logits = torch.tensor([[2.0, -1.0, 9.0]])
    shown = torch.tensor([[True, True, False]])
    holds = torch.tensor([[1.0, 0.0, 0.0]])

    def loss(values: Tensor) -> float:
        return float(loss_of(values, holds, shown, gamma=1.5, softmax_share=0.3))

    assert loss(logits) == pytest.approx(loss(torch.tensor([[2.0, -1.0, -9.0]])))
    assert loss(torch.tensor([[4.0, -3.0, 0.0]])) < loss(logits)
