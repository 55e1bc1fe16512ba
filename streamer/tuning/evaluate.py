"""Measure a classifier on labelled text: macro-F1 and accuracy per data set.

Enters: LabelledSets, any Classifier. Leaves: an Evaluation. Each set's whole label list is one facet, asked word
for word; one label a text unless several can hold. Must not know: which model it measures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import MultiLabelBinarizer
from tokenizers import Tokenizer

from streamer.decide import decide
from streamer.engine.base import Classifier
from streamer.errors import FatalError
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Document, Scores
from streamer.tuning.data import LabelledSet

WINDOW = 256  # documents per window
FACET = "labels"


@dataclass(frozen=True, slots=True)
class SetResult:
    """One data set. `accuracy` of a multi-label set counts only texts with every label right."""

    dataset: str
    rows: int
    labels: int
    multi: bool
    macro_f1: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All sets, and the plain mean of their macro-F1. `seconds` is wall-clock time of scoring."""

    model: str
    revision: str
    sets: tuple[SetResult, ...]
    mean_macro_f1: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def cut_texts(tokenizer: Tokenizer, texts: Sequence[str], tokens: int) -> list[str]:
    """The first `tokens` tokens of each text, as text."""
    # no tokenizer in use makes more than one token of a character, few make one of more than 16
    rough = [text[: 16 * tokens] for text in texts]
    cut = []
    for text, encoded in zip(rough, tokenizer.encode_batch(rough, add_special_tokens=False), strict=True):
        cut.append(text if len(encoded.ids) <= tokens else text[: encoded.offsets[tokens - 1][1]])
    return cut


def label_set_of(labelled: LabelledSet) -> LabelSet:
    """The set's label list as one facet."""
    kind = Kind.MULTI if labelled.multi else Kind.SINGLE
    return LabelSet(labelled.dataset, (Facet(FACET, kind, tuple(Label(name) for name in labelled.names)),))


def predict(
    classifier: Classifier, label_set: LabelSet, texts: Sequence[str], progress: Callable[[int], None]
) -> list[tuple[str, ...]]:
    """Labels given to each text; `progress` is told how many texts each window held.

    Raises FatalError where the engine cannot score a text: a figure over the rest would not be comparable.
    """
    classifier.warm_up([label_set])
    predicted: list[tuple[str, ...]] = []
    for first in range(0, len(texts), WINDOW):
        documents = [Document(text, label_set) for text in texts[first : first + WINDOW]]
        result = None
        pending = classifier.submit(documents)
        while result is None:
            result = pending.wait(1.0)
        scores = [one for one in result.scores if isinstance(one, Scores)]
        if len(scores) != len(documents):
            raise FatalError(f"{label_set.name}: the engine refused {len(documents) - len(scores)} texts")
        predicted += [verdict.facets[0].labels for verdict in decide(documents, scores)]
        progress(len(documents))
    return predicted


def score_set(labelled: LabelledSet, predicted: Sequence[tuple[str, ...]]) -> SetResult:
    """Macro-F1 over the set's whole label list."""
    rows, names = len(labelled.texts), list(labelled.names)
    if labelled.multi:
        binary = MultiLabelBinarizer(classes=names)
        right, given = binary.fit_transform(labelled.labels), binary.transform(predicted)
        f1 = f1_score(right, given, average="macro", zero_division=0)
    else:
        right, given = [one[0] for one in labelled.labels], [one[0] for one in predicted]
        f1 = f1_score(right, given, labels=names, average="macro", zero_division=0)
    return SetResult(labelled.dataset, rows, len(names), labelled.multi, float(f1), float(accuracy_score(right, given)))


def evaluate(
    classifier: Classifier,
    sets: Sequence[LabelledSet],
    *,
    cut: Callable[[Sequence[str]], list[str]],
    progress: Callable[[str, int], None],
) -> Evaluation:
    """Measure every set; `cut` shortens texts, `progress` is told (data set, texts done since the last call)."""
    info = classifier.describe()
    began = time.monotonic()
    results = []
    for labelled in sets:

        def step(done: int, name: str = labelled.dataset) -> None:
            progress(name, done)

        predicted = predict(classifier, label_set_of(labelled), cut(labelled.texts), step)
        results.append(score_set(labelled, predicted))
    mean = sum(result.macro_f1 for result in results) / len(results)
    return Evaluation(info.name, info.revision, tuple(results), mean, time.monotonic() - began)
