"""Training on few examples: it learns them, can be broken off anywhere, keeps the best, and masks what is unknown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.tuning.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from streamer.tuning.few_shot import (
    FewShotRun,
    FewShotSettings,
    Outcome,
    Score,
    logits_of,
    loss_of,
    score,
    steps_for,
)
from streamer.tuning.few_shot_data import Examples
from streamer.tuning.few_shot_model import Tunable, open_tunable
from tests.engine.conftest import save_checkpoint

NAMES = ("alpha", "beta", "gamma", "delta")
SINGLE = LabelSet("letters", (Facet("letter", Kind.SINGLE, tuple(Label(name) for name in NAMES)),))
BOTH = LabelSet(
    "both",
    (Facet("letter", Kind.SINGLE, (Label("alpha"), Label("beta"))), Facet("any", Kind.MULTI, (Label("gamma"),))),
)


def examples(each: int, labels: int = 4) -> Examples:
    """Texts that spell their label's first letter."""
    right = np.eye(labels, dtype=np.bool_)[np.arange(each * labels) % labels]
    texts = tuple(f"{NAMES[row % labels][0] * (2 + row % 3)} {row}" for row in range(each * labels))
    return Examples(texts, right, np.ones_like(right))


def settings(**changed: float) -> FewShotSettings:
    values: dict[str, float] = {
        "steps": 80, "batch": 16, "rate": 3e-3, "lora_rank": 0, "seed": 3, "chunk_tokens": 200, "score_steps": 5,
        "patience": 100, "checkpoint_steps": 1000,
    }  # fmt: skip
    return FewShotSettings(**{**values, **changed})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def gliclass(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny GLiClass checkpoint with an encoder of that kind."""
    made: dict[str, Path] = {}

    def make(encoder: str) -> Path:
        if encoder not in made:
            made[encoder] = tmp_path_factory.mktemp(encoder)
            save_checkpoint(made[encoder], encoder, {"normalize_features": True, "logit_scale_init_value": 2.0})
        return made[encoder]

    return make


def open_(directory: Path, label_set: LabelSet = SINGLE) -> Tunable:
    return open_tunable(directory, label_set, device=torch.device("cpu"), text_tokens=24)


def train(
    model: Tunable,
    one: FewShotSettings,
    *,
    fit: Examples,
    held_out: Examples | None = None,
    resume: Checkpoint | None = None,
    save: Callable[[Checkpoint], None] = lambda state: None,
    label_set: LabelSet = SINGLE,
) -> tuple[Outcome, list[float]]:
    losses: list[float] = []
    run = FewShotRun(model=model, facets=label_set.facets, fit=fit, held_out=held_out, settings=one)
    return run.run(resume=resume, progress=lambda step, loss: losses.append(loss), save=save), losses


def same(a: Tunable, b: Tunable) -> bool:
    pairs = zip(a.module.state_dict().values(), b.module.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("rank", [0, 4])
def test_training_overfits_32_examples(tiny_bundled: Path, rank: int) -> None:
    model, fit = open_(tiny_bundled), examples(8)
    words = model.words.weight.clone()  # type: ignore[operator]
    outcome, losses = train(model, settings(lora_rank=rank, rate=1e-2 if rank else 3e-3), fit=fit)
    assert outcome == Outcome(80, None, None, 80)
    assert losses[-1] < 0.1 < 1.0 < losses[0]
    assert score(model, SINGLE.facets, fit).right == 1.0
    assert torch.equal(model.words.weight, words)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoder", ["bert", "modernbert", "deberta-v2"])
def test_gliclass_checkpoints_learn(gliclass: Callable[[str], Path], encoder: str) -> None:
    model, fit = open_(gliclass(encoder)), examples(4)
    _, losses = train(model, settings(steps=25, rate=5e-3), fit=fit)
    assert losses[-1] < losses[0] / 2
    assert all(weight.grad is not None for weight in model.encoder.parameters() if weight.requires_grad)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_bundled: Path, tmp_path: Path, rank: int) -> None:
    fit, held_out = examples(5), examples(2)
    one = settings(steps=17, lora_rank=rank, checkpoint_steps=7, score_steps=3)
    whole = open_(tiny_bundled)
    outcome, losses = train(whole, one, fit=fit, held_out=held_out)
    states: list[Path] = []

    def save(state: Checkpoint) -> None:
        states.append(tmp_path / f"{len(states)}")
        write_checkpoint(states[-1], Checkpoint({**state.facts, "about": {}}, state.tensors))

    train(open_(tiny_bundled), one, fit=fit, held_out=held_out, save=save)
    assert len(states) == 2
    for state, done in zip(states, (7, 14), strict=True):
        resumed = open_(tiny_bundled)
        found, rest = train(resumed, one, fit=fit, held_out=held_out, resume=read_checkpoint(state, about={}))
        assert (found, rest) == (outcome, losses[done:])
        assert same(resumed, whole)


def test_a_seed_decides_a_run(tiny_bundled: Path) -> None:
    models = []
    for seed in (1, 1, 2):
        models.append(open_(tiny_bundled))
        train(models[-1], settings(steps=3, seed=seed), fit=examples(5))
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def test_small_chunks_change_nothing_but_rounding(tiny_bundled: Path) -> None:
    losses = [
        train(open_(tiny_bundled), settings(steps=3, chunk_tokens=tokens, rate=1e-4), fit=examples(4))[1]
        for tokens in (1, 10_000)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)  # bfloat16 where the machine computes in it


def test_it_stops_early_and_keeps_the_best_weights(tiny_bundled: Path) -> None:
    fit = examples(4)
    wrong = Examples(fit.texts, np.roll(fit.right, 1, axis=1), fit.known)  # what is learned is never right here
    model = open_(tiny_bundled)
    before = score(model, SINGLE.facets, wrong)
    outcome, losses = train(model, settings(rate=1e-2, patience=4), fit=fit, held_out=wrong)
    assert outcome.before == before
    assert outcome.best is not None
    assert outcome.best_step < outcome.steps == len(losses) < 80
    assert outcome.best_step + 4 * 5 == outcome.steps
    assert score(model, SINGLE.facets, wrong) == outcome.best
    assert not before.beats(outcome.best)


def test_what_beats_what() -> None:
    assert Score(0.5, 2.0).beats(Score(0.4, 1.0))
    assert Score(0.5, 1.0).beats(Score(0.5, 2.0))
    assert not Score(0.5, 1.0).beats(Score(0.5, 1.0))


def test_loss_of_two_facets_leaves_out_what_is_unknown() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 7.0]])
    right = np.array([[True, False, False], [False, True, False]])

    def loss(known: list[list[bool]], values: Tensor = logits) -> float:
        return float(loss_of(values, Examples(("a", "b"), right, np.array(known)), BOTH.facets))

    single = [np.log1p(np.exp(-2.0)), np.log(2.0)]
    multi = np.log1p(np.exp(1.0))
    known = [[True, True, True], [True, True, False]]
    assert loss(known) == pytest.approx((sum(single) + multi) / 2, rel=1e-5)
    assert loss([[False] * 3, [True, True, False]]) == pytest.approx(single[1] / 2, rel=1e-5)
    changed = logits.clone()
    changed[1, 2] = -50.0
    assert loss(known, changed) == pytest.approx(loss(known))


def test_score_counts_known_answers(tiny_bundled: Path) -> None:
    model = open_(tiny_bundled, BOTH)
    texts = ("a", "b", "c")
    logits = logits_of(model, texts)
    assert torch.equal(logits_of(model, texts[::-1]).flip(0), logits)
    best = np.eye(2, dtype=np.bool_)[logits[:, :2].argmax(1).numpy()]
    right = np.concatenate([best, logits[:, 2:].numpy() < 0], axis=1)  # the multi facet is always wrong
    known = np.array([[True, True, True], [True, True, False], [False, False, True]])
    assert score(model, BOTH.facets, Examples(texts, right, known)).right == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    ("texts", "epochs", "steps"), [(16, 10.0, 100), (160, 10.0, 100), (1600, 10.0, 1000), (161, 10.0, 101)]
)
def test_steps(texts: int, epochs: float, steps: int) -> None:
    assert steps_for(texts, batch=16, epochs=epochs, least=100) == steps
