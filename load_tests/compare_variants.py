"""Which way should labels meet a text? `python -m load_tests.compare_variants CORPUS --start ENCODER --work DIR ...`.

Trains each variant of `load_tests/variants/models.py` from the same encoder, on the same batches in the same order,
once a seed, by the recipe of the bundled model; then measures it on the sets of another split, by the protocol of
MODEL_CARD.md but on a sample of each set's texts. CORPUS is a labelled file whose rows have the columns text, labels,
dataset and split. Choose on a validation split; a split that figures are published of is not for choosing.

A line of JSON for each run goes to DIR/runs.jsonl; the command may be broken off and repeated: runs that are done are
not done again. In the end prints tables, and one line of JSON.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import torch
import typer
from rich.console import Console

from load_tests.harness import LoadTestError, exit_with
from load_tests.variants.fit import fit
from load_tests.variants.measure import check_room, measure, sample_texts
from load_tests.variants.models import VARIANTS, build_variant
from load_tests.variants.show import show, summary
from streamer.engine.devices import choose_device
from streamer.engine.loading import read_tokenizer
from streamer.terminal import steps_progress
from streamer.tuning.data import LabelledSet, read_labelled, read_written
from streamer.tuning.recipe import Source, build_sources
from streamer.tuning.train import TrainSettings
from streamer.tuning.wordnet import read_wordnet

SAMPLE_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """What decides a run beside its variant and seed; stored with it, so that unlike runs are never compared."""

    corpus: str
    start: str
    fit_split: str
    measure_split: str
    leave_out: tuple[str, ...]
    wordnet: str | None
    written: str | None
    steps: int
    texts: int


def main(
    corpus: Annotated[Path, typer.Argument(help="jsonl, csv or parquet with text, labels, dataset, split.")],
    start: Annotated[Path, typer.Option(help="Directory of a BERT encoder.")],
    work: Annotated[Path, typer.Option(help="Directory for results.")],
    wordnet: Annotated[Path | None, typer.Option(help="Folder of WordNet's database files.")] = None,
    written: Annotated[Path | None, typer.Option(help="Texts written for training.")] = None,
    fit_split: Annotated[str, typer.Option("--fit", help="Split to train on.")] = "train",
    measure_split: Annotated[str, typer.Option("--measure", help="Split to choose by.")] = "validation",
    leave_out: Annotated[list[str] | None, typer.Option(help="Not this data set; may be repeated.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Batches of 32 examples.")] = 180,
    texts: Annotated[int, typer.Option(min=1, help="Texts of each set to measure on.")] = 250,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each variant.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train the variants beside each other, and measure them."""
    paths = [None if path is None else str(path) for path in (wordnet, written)]
    wish = Wish(
        str(corpus), str(start), fit_split, measure_split, tuple(leave_out or ()), paths[0], paths[1], steps, texts
    )
    exit_with(lambda: _run(wish, work, seeds, torch.device(choose_device(device))))


def _run(wish: Wish, work: Path, seeds: int, device: torch.device) -> bool:
    work.mkdir(parents=True, exist_ok=True)
    path = work / "runs.jsonl"
    sets = [
        sample_texts(one, wish.texts, seed=SAMPLE_SEED)
        for one in read_labelled(Path(wish.corpus), wish.measure_split)
        if one.dataset not in wish.leave_out
    ]
    if not sets:
        raise LoadTestError(f"{wish.corpus}: every data set is left out")
    runs = _done(path, wish)
    # seed by seed, so that what is there after an interruption compares all variants
    left = [(name, seed) for seed in range(1, seeds + 1) for name in VARIANTS if (name, seed) not in runs]
    sources = _sources(wish) if left else []
    for name, seed in left:
        runs[name, seed] = _one(name, seed, sources, sets, wish, device)
        with path.open("ab") as file:
            file.write(orjson.dumps(runs[name, seed]) + b"\n")
    wanted = {key: run for key, run in runs.items() if key[1] <= seeds}
    found = summary(sets, wanted, seeds)
    show(Console(), found)
    print(orjson.dumps(found).decode())
    return True


def _done(path: Path, wish: Wish) -> dict[tuple[str, int], dict[str, Any]]:
    """Runs by variant and seed; raises LoadTestError where they are of something else."""
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    asked = orjson.loads(orjson.dumps(asdict(wish)))
    for row in rows:
        unlike = [name for name, value in asked.items() if row["wish"][name] != value]
        if unlike:
            raise LoadTestError(f"{path}: holds runs with other {unlike[0]}; repeat the command, or give a new --work")
    return {(row["variant"], row["seed"]): row for row in rows}


def _sources(wish: Wish) -> list[Source]:
    glosses = read_wordnet(Path(wish.wordnet)) if wish.wordnet else []
    texts = read_written(Path(wish.written)) if wish.written else []
    return build_sources(read_labelled(Path(wish.corpus), wish.fit_split), glosses, texts)


def _one(
    name: str, seed: int, sources: list[Source], sets: list[LabelledSet], wish: Wish, device: torch.device
) -> dict[str, Any]:
    """Train, measure, and say what came of it."""
    settings = TrainSettings(steps=wish.steps, stop_after=wish.steps, seed=seed)
    tokenizer = read_tokenizer(Path(wish.start))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    torch.manual_seed(seed)
    variant = build_variant(name, Path(wish.start), label_tokens=settings.label_tokens).to(device).eval()
    check_room(variant, tokenizer, sets, label_tokens=settings.label_tokens)
    console = Console(stderr=True)
    doing = f"{name}, seed {seed}"
    with steps_progress(console) as progress:
        training = progress.add_task(f"{doing}: training", total=settings.steps)

        def report(step: int, loss: float) -> None:
            progress.update(training, completed=step, description=f"{doing}: training, loss {loss:.4f}")
            if not console.is_terminal:
                console.print(f"{doing}: step {step} of {settings.steps}, loss {loss:.4f}")

        fitted = fit(variant, tokenizer, sources, settings, report)
        measuring = progress.add_task(f"{doing}: measuring", total=sum(len(one.texts) for one in sets))
        measured = measure(
            variant,
            tokenizer,
            sets,
            label_tokens=settings.label_tokens,
            progress=lambda texts: progress.advance(measuring, texts),
        )
    return {"variant": name, "seed": seed, "wish": asdict(wish), "fit": asdict(fitted), "measured": asdict(measured)}


if __name__ == "__main__":
    typer.run(main)
