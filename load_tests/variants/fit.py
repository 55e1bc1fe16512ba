"""Train one variant by the recipe of the bundled model, on batches that the seed alone decides.

Enters: a variant, sources of examples, settings. Leaves: a trained variant, its losses and what it cost. Must not know:
what is measured afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter, process_time

import torch
from tokenizers import Tokenizer

from load_tests.variants.models import Variant
from streamer.engine.padding import pad
from streamer.tuning.recipe import Example, Source
from streamer.tuning.train import Descent, Progress, TrainSettings, draw_batches, loss_of, token_ids

TOLD_STEPS = 20


@dataclass(frozen=True, slots=True)
class Fitted:
    """What training was: `losses` are means over TOLD_STEPS steps each; seconds by the wall clock and of CPU."""

    examples: int
    losses: tuple[float, ...]
    wall_s: float
    cpu_s: float


def fit(
    variant: Variant, tokenizer: Tokenizer, sources: Sequence[Source], settings: TrainSettings, progress: Progress
) -> Fitted:
    """Train in place; `progress` is told as a Trainer tells it."""
    descent = Descent(variant, variant.encoder, settings)
    losses: list[float] = []
    told: list[float] = []
    examples = 0
    wall_s, cpu_s = perf_counter(), process_time()
    for step, batch in enumerate(islice(draw_batches(sources, settings), settings.stop_after), 1):
        losses.append(_step(variant, tokenizer, batch, settings, descent))
        examples += len(batch)
        if step % TOLD_STEPS == 0 or step == settings.stop_after:
            told.append(sum(losses) / len(losses))
            losses.clear()
            progress(step, told[-1])
    return Fitted(examples, tuple(told), perf_counter() - wall_s, process_time() - cpu_s)


def _step(
    variant: Variant, tokenizer: Tokenizer, batch: Sequence[Example], settings: TrainSettings, descent: Descent
) -> float:
    # sorted by length, so that those encoded together need little padding
    wordings = sorted({label for example in batch for label in example.labels}, key=lambda w: (len(w), w))
    place = {label: i for i, label in enumerate(wordings)}
    texts = token_ids(tokenizer, [example.text for example in batch], settings.text_tokens)
    device = next(variant.parameters()).device
    with torch.autocast(device.type, dtype=torch.bfloat16):
        answer = variant.ask(token_ids(tokenizer, wordings, settings.label_tokens))
        logits = answer(texts, [[place[label] for label in example.labels] for example in batch])
    holds, shown = (one.to(device) for one in pad([example.holds for example in batch]))
    return descent.step(
        loss_of(logits, holds.float(), shown, gamma=settings.focal_gamma, softmax_share=settings.softmax_share)
    )
