"""`streamer train`: from files and settings to a new model directory.

Enters: what the command line says. Leaves: a model directory that `model.name` can name, with a card. Until it is
whole, the state of the run lies beside it (`OUT.unfinished`). Must not know: how a model is trained, Kafka.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from streamer.app import model_directory
from streamer.engine.devices import choose_device
from streamer.engine.loading import save_tuned, weights_revision
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.offline import label_set_from_settings
from streamer.settings import ModelSettings, build_model_settings, load_settings
from streamer.terminal import steps_progress
from streamer.tuning.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from streamer.tuning.data import read_rows
from streamer.tuning.few_shot import FewShotRun, FewShotSettings, Outcome, logits_of, steps_for
from streamer.tuning.few_shot_card import CARD, Trained, card
from streamer.tuning.few_shot_data import Examples, examples_of, hold_out, label_set_of_file
from streamer.tuning.few_shot_model import Tunable, open_tunable
from streamer.tuning.labelled import read_labelled_records
from streamer.tuning.weak import sure_examples

# The recipe's sizes, chosen on eight-shot episodes of sets that no figure is given for.
BATCH: Final = 16
EPOCHS: Final = 10.0
LEAST_STEPS: Final = 60
MOST_STEPS: Final = 2_000  # unless the command line says otherwise
FULL_RATE: Final = 5e-5
LORA_RATE: Final = 5e-4
CHUNK_TOKENS: Final = 8_192
CHECKS: Final = 20  # how often held-out texts are scored in a whole run
CHECKPOINT_STEPS: Final = 50
# With fewer texts a label than this, all are trained on: a share of them would be too few to stop by.
HELD_OUT_FROM: Final = 32
HELD_OUT_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the command line asked for; None where it left the choice to the recipe."""

    data: Path | None
    out: Path
    config: Path | None
    label_set: str | None
    model: str | None
    text: Sequence[str]
    split: str | None
    validation: Path | None
    held_out: float | None
    unlabelled: Path | None
    lora: int
    steps: int | None
    rate: float | None
    text_tokens: int
    patience: int
    seed: int
    device: str
    resume: bool


def run_few_shot(wish: Wish, *, console: Console) -> Trained:
    """Train and write the model. Raises UsageError for what cannot be read, trained or written."""
    state = wish.out.with_name(wish.out.name + ".unfinished")
    _require_room(wish, state)
    label_set, model_settings = _label_set_and_model(wish)
    fit, held_out = _examples(wish, label_set)
    start = model_directory(model_settings)
    model = open_tunable(start, label_set, device=choose_device(wish.device), text_tokens=wish.text_tokens)
    labelled = len(fit.texts)
    if wish.unlabelled is not None:
        fit = fit.with_more(_sure(wish.unlabelled, wish.text, model, label_set))
    if len(fit.texts) < 2:
        raise UsageError(f"{len(fit.texts)} texts to train on; at least two are needed")
    settings = _settings(wish, len(fit.texts))
    kept_back = len(held_out.texts) if held_out is not None else 0
    console.print(
        f"{labelled} labelled texts, {len(fit.texts) - labelled} chosen of unlabelled ones, {kept_back} held out; "
        f"{len(label_set.labels)} labels",
        markup=False,
        highlight=False,
    )
    run = FewShotRun(model=model, facets=label_set.facets, fit=fit, held_out=held_out, settings=settings)
    revision = weights_revision(start)
    about = {
        "settings": _digest(json.dumps(asdict(settings))),
        "examples": _digest(*(part for part in (fit, held_out) if part is not None)),
        "labels": label_set.scoring_key,
        "model": revision,
    }
    outcome = _train(run, settings.steps, state, about, resume=wish.resume, console=console)
    trained = Trained(
        label_set=label_set,
        base=model_settings.name,
        base_revision=revision,
        settings=settings,
        outcome=outcome,
        labelled=labelled,
        held_out=kept_back,
        examples=fit,
    )
    _write(wish.out, lambda directory: save_tuned(model.module, start, directory), trained)
    state.unlink(missing_ok=True)
    console.print(_summary(wish.out, outcome), markup=False, highlight=False)
    return trained


def _train(
    run: FewShotRun, steps: int, state: Path, about: dict[str, str], *, resume: bool, console: Console
) -> Outcome:
    """Run to the end, from `state` where it is resumed, its state written there now and then."""
    found = read_checkpoint(state, about=about) if resume else None

    def save(at: Checkpoint) -> None:
        write_checkpoint(state, Checkpoint({**at.facts, "about": about}, at.tensors))

    with _progress(console, steps, state) as progress:
        return run.run(resume=found, progress=progress, save=save)


def _require_room(wish: Wish, state: Path) -> None:
    if wish.out.exists() and (not wish.out.is_dir() or any(wish.out.iterdir())):
        raise UsageError(f"{wish.out}: exists and is not empty; --out takes a new directory")
    if not wish.out.parent.is_dir():
        raise UsageError(f"{wish.out.parent}: no such directory; make it first, or choose another --out")
    if state.exists() and not wish.resume:
        raise UsageError(f"{state}: an unfinished run; go on with --resume, or remove the file")


def _label_set_and_model(wish: Wish) -> tuple[LabelSet, ModelSettings]:
    if wish.data is None and wish.unlabelled is None:
        raise UsageError("nothing to learn from; give a labelled FILE, or unlabelled texts with --unlabelled")
    if wish.config is None:
        if wish.label_set is not None:
            raise UsageError("--label-set names one of a settings file; give the file with -c")
        if wish.data is None:
            raise UsageError("--unlabelled alone needs the labels: a label set of a settings file (-c and --label-set)")
        label_set, model = label_set_of_file(wish.data, name=wish.data.stem, split=wish.split), ModelSettings()
    else:
        settings = load_settings(wish.config)
        label_set, model = label_set_from_settings(settings, wish.label_set), settings.model
    return label_set, model if wish.model is None else build_model_settings({"name": wish.model})


def _examples(wish: Wish, label_set: LabelSet) -> tuple[Examples, Examples | None]:
    """What is trained on, and what is held out."""

    def read(path: Path, split: str | None) -> Examples:
        return examples_of(label_set, read_labelled_records(path, label_set, text=wish.text, split=split))

    if wish.validation is not None and wish.held_out is not None:
        raise UsageError("give --validation or --held-out, not both")
    held_out = None if wish.validation is None else read(wish.validation, None)
    if wish.data is None:
        return Examples.none(len(label_set.labels)), held_out
    fit = read(wish.data, wish.split)
    share = wish.held_out
    if share is None and wish.validation is None:
        share = HELD_OUT_SHARE if len(fit.texts) >= HELD_OUT_FROM * len(label_set.labels) else 0.0
    if share:
        fit, held_out = hold_out(fit, share, seed=wish.seed)
        if not held_out.texts:
            raise UsageError(f"--held-out {share}: too few texts of any label to keep one back; leave it out")
    return fit, held_out


def _sure(path: Path, text: Sequence[str], model: Tunable, label_set: LabelSet) -> Examples:
    texts = []
    for number, row in enumerate(read_rows(path), 1):
        found = [row[column] for column in text if isinstance(row.get(column), str) and row[column].strip()]
        if not found:
            raise UsageError(f"{path}: row {number}: no text in '{', '.join(text)}'; name the column with --text")
        texts.append("\n".join(found))
    if not texts:
        raise UsageError(f"{path}: no rows")
    return sure_examples(label_set.facets, texts, logits_of(model, texts).numpy())


def _settings(wish: Wish, texts: int) -> FewShotSettings:
    steps = wish.steps or min(MOST_STEPS, steps_for(texts, batch=BATCH, epochs=EPOCHS, least=LEAST_STEPS))
    return FewShotSettings(
        steps=steps,
        batch=BATCH,
        rate=wish.rate or (LORA_RATE if wish.lora else FULL_RATE),
        lora_rank=wish.lora,
        seed=wish.seed,
        chunk_tokens=CHUNK_TOKENS,
        score_steps=max(1, steps // CHECKS),
        patience=wish.patience,
        checkpoint_steps=CHECKPOINT_STEPS,
    )


def _digest(*parts: str | Examples) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
        else:
            digest.update(json.dumps(part.texts).encode() + part.right.tobytes() + part.known.tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def _progress(console: Console, steps: int, state: Path) -> Iterator[Callable[[int, float], None]]:
    """A bar on a terminal, a line for each tenth elsewhere; whoever breaks off is told how to go on."""
    with steps_progress(console) as bar:
        task = bar.add_task("training", total=steps)

        def report(done: int, loss: float) -> None:
            bar.update(task, completed=done, description=f"training, loss {loss:.3f}")
            if not console.is_terminal and (done % max(1, steps // 10) == 0 or done == steps):
                console.print(f"step {done} of {steps}, loss {loss:.3f}")

        try:
            yield report
        except KeyboardInterrupt:
            if state.exists():
                console.print(f"{state} holds the run; the same command with --resume goes on", markup=False)
            raise


def _write(out: Path, save: Callable[[Path], None], trained: Trained) -> None:
    """Write beside the target and rename: a model directory is whole or not there."""
    beside = out.with_name(out.name + ".partial")
    shutil.rmtree(beside, ignore_errors=True)
    save(beside)
    (beside / CARD).write_text(card(trained, weights_revision(beside)), encoding="utf-8")
    if out.exists():
        out.rmdir()
    beside.rename(out)


def _summary(out: Path, outcome: Outcome) -> str:
    told = f"written: {out}, after {outcome.steps} steps"
    if outcome.before is not None and outcome.best is not None:
        told += (
            f"; held-out texts right: {outcome.best.right:.1%} (before: {outcome.before.right:.1%}), "
            f"weights of step {outcome.best_step}"
        )
    return told
