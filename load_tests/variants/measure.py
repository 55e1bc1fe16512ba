"""How well a variant labels data sets it was not trained on, by the protocol of MODEL_CARD.md, and what that costs.

Enters: a variant, LabelledSets. Leaves: for each set its figures and the labels given to each text. Must not know: how
the variant was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from time import process_time
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from load_tests.variants.models import Variant
from streamer.decide import decide
from streamer.errors import UsageError
from streamer.records import Document, Scores
from streamer.tuning.data import LabelledSet
from streamer.tuning.evaluate import cut_texts, label_set_of, score_set
from streamer.tuning.train import token_ids

TEXT_TOKENS: Final = 256  # CLS and SEP not counted
TEXTS_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class SetScore:
    """One data set; `given` are the places of each text's labels in the set's list, in the order of the texts."""

    dataset: str
    macro_f1: float
    accuracy: float
    given: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """Costs are means over all texts: tokens through the encoder, milliseconds of CPU to score."""

    sets: tuple[SetScore, ...]
    tokens: float
    cpu_ms: float


def sample_texts(labelled: LabelledSet, texts: int, *, seed: int) -> LabelledSet:
    """At most so many texts of a set, the same for the same seed; its label list stays whole."""
    rows = sorted(Random(seed).sample(range(len(labelled.texts)), min(texts, len(labelled.texts))))
    return LabelledSet(
        labelled.dataset,
        labelled.names,
        tuple(labelled.texts[row] for row in rows),
        tuple(labelled.labels[row] for row in rows),
        labelled.multi,
    )


def check_room(variant: Variant, tokenizer: Tokenizer, sets: Sequence[LabelledSet], *, label_tokens: int) -> None:
    """Raise UsageError for a set whose label list does not fit beside a text: before training rather than after."""
    (empty,) = token_ids(tokenizer, [""], TEXT_TOKENS)
    for one in sets:
        try:
            variant.tokens(empty, token_ids(tokenizer, one.names, label_tokens))
        except ValueError as error:
            raise UsageError(f"data set '{one.dataset}': {error}; leave it out") from None


def measure(
    variant: Variant,
    tokenizer: Tokenizer,
    sets: Sequence[LabelledSet],
    *,
    label_tokens: int,
    progress: Callable[[int], None],
) -> Measured:
    """Score every set's whole label list; `progress` is told how many texts were done."""
    found = [_measure_set(variant, tokenizer, one, label_tokens, progress) for one in sets]
    texts = sum(len(one.texts) for one in sets)
    return Measured(
        tuple(score for score, _, _ in found),
        sum(tokens for _, tokens, _ in found) / texts,
        1e3 * sum(cpu_s for _, _, cpu_s in found) / texts,
    )


def _measure_set(
    variant: Variant, tokenizer: Tokenizer, labelled: LabelledSet, label_tokens: int, progress: Callable[[int], None]
) -> tuple[SetScore, int, float]:
    """Score, tokens and seconds of CPU of one set."""
    labels = token_ids(tokenizer, labelled.names, label_tokens)
    texts = token_ids(tokenizer, cut_texts(tokenizer, labelled.texts, TEXT_TOKENS), TEXT_TOKENS + 2)
    began_s = process_time()
    logits = score_texts(variant, labels, texts, progress)
    cpu_s = process_time() - began_s
    label_set = label_set_of(labelled)
    documents = [Document(text, label_set) for text in labelled.texts]
    verdicts = decide(documents, [Scores(row, len(ids), False) for row, ids in zip(logits, texts, strict=True)])
    given = [one.facets[0].labels for one in verdicts]
    result = score_set(labelled, given)
    place = {name: i for i, name in enumerate(labelled.names)}
    places = tuple(tuple(place[name] for name in names) for names in given)
    tokens = sum(variant.tokens(ids, labels) for ids in texts)
    return SetScore(labelled.dataset, result.macro_f1, result.accuracy, places), tokens, cpu_s


def score_texts(
    variant: Variant, labels: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], progress: Callable[[int], None]
) -> NDArray[np.float32]:
    """Logits (texts, labels) of token ids, in bfloat16 as in training; texts of about equal length go together."""
    logits = np.empty((len(texts), len(labels)), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    asked = range(len(labels))
    device = next(variant.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16):
        answer = variant.ask(labels)
        for first in range(0, len(order), TEXTS_AT_ONCE):
            rows = order[first : first + TEXTS_AT_ONCE]
            logits[rows] = answer([texts[i] for i in rows], [asked] * len(rows)).float().cpu().numpy()
            progress(len(rows))
    return logits
