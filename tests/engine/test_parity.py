"""Our uni-encoder gives what gliclass gives, over every head that is implemented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamer.engine.uniencoder import UniEncoderBackend
from streamer.facets import Facet, Kind, Label, LabelSet, flatten_labels
from streamer.records import Document
from tests.engine.slow_kernels import KINDS

TEXTS = (
    "My invoice was wrong!",
    "nobody answers the phone, please call me back on Monday. The screen of my laptop stays black after the update",
    "Great   service:\n thank you",
    "",
    "東京 naïve café 🙂",
)
# Of probabilities. We sum in another order than gliclass does, whose own float32 is up to 1e-5 from its float64 here;
# how far the two are apart depends on the processor. `test_in_float64_...` leaves no such room.
ROUNDING = 1e-5
Checkpoint = Callable[..., Path]
Backend = Callable[..., UniEncoderBackend]
LabelSets = Callable[..., LabelSet]
Refer = Callable[..., Any]


def by_document(backend: UniEncoderBackend, documents: Sequence[Document], batch: int) -> list[NDArray[np.float32]]:
    """Logits (labels,) of each document, its rows scored in batches of `batch`."""
    rows = backend.rows(documents)
    out = [np.zeros(len(document.label_set.labels), np.float32) for document in documents]
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        for row, logits in zip(some, backend.forward(some), strict=True):
            out[row.document][row.first_label : row.first_label + row.labels] = logits[: row.labels]
    return out


def probability(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


def assert_close(ours: list[NDArray[np.float32]], theirs: list[NDArray[np.float32]], tolerance: float) -> None:
    """Probabilities within `tolerance`, logits within ten times that."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(probability(a), probability(b), rtol=0, atol=tolerance)
        np.testing.assert_allclose(a, b, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.fixture
def label_sets(one_facet: LabelSets) -> list[LabelSet]:
    """A label set for each of TEXTS, all different: counts, prompt, examples, hierarchy, descriptions."""
    examples = (("the bill is too high", ("billing",)), ("it is down", ("outage", "praise")))
    return [
        one_facet(["billing", "outage", "praise"], prompt="Classify the request: ", examples=examples),
        one_facet(flatten_labels({"hardware": ["laptop", "phone"], "software": {"update": ["late", "wrong"]}})),
        one_facet(["positive", "negative"], prompt="How does the customer feel?"),
        one_facet([Label("billing", "a question about a bill or payment"), "Überweisung", "x"]),
        one_facet(["praise"], examples=[("thank you", ("praise",))]),
    ]


def check_against_gliclass(
    directory: Path,
    label_sets: list[LabelSet],
    open_backend: Backend,
    reference: Refer,
    *,
    in_batch: bool,
) -> None:
    gliclass = reference(directory)
    documents = [Document(*pair) for pair in zip(TEXTS, label_sets, strict=True)]
    alone = [gliclass.logits([text], [labels])[0] for text, labels in zip(TEXTS, label_sets, strict=True)]
    assert np.concatenate(alone).std() > 0.05, "the checkpoint must tell labels apart, or the comparison says nothing"
    for kernels in KINDS.values():
        backend = open_backend(directory, choose_kernels=kernels)
        assert_close(by_document(backend, documents, 1), alone, ROUNDING)
        together = by_document(backend, documents, len(documents))
        assert_close(together, alone, ROUNDING)
        if in_batch:
            assert_close(together, gliclass.logits(TEXTS, label_sets), ROUNDING)


@pytest.mark.parametrize(
    ("encoder", "scorer", "prompt_first", "label_pooling", "text_pooling", "normalise"),
    [
        *product(
            ("bert", "modernbert", "deberta-v2"),
            ("simple", "mlp"),
            (True, False),
            ("first", "average"),
            ("first", "avg"),
            (0, 1),
        )
    ],
)
def test_every_head_equals_gliclass(
    encoder: str,
    scorer: str,
    prompt_first: bool,
    label_pooling: str,
    text_pooling: str,
    normalise: int,
    make_checkpoint: Checkpoint,
    label_sets: list[LabelSet],
    open_backend: Backend,
    reference: Refer,
) -> None:
    directory = make_checkpoint(
        encoder,
        scorer_type=scorer,
        prompt_first=prompt_first,
        class_token_pooling=label_pooling,
        pooling_strategy=text_pooling,
        normalize_features=bool(normalise),
    )
    # gliclass averages over padding, so only texts scored alone can be compared
    check_against_gliclass(directory, label_sets, open_backend, reference, in_batch=text_pooling == "first")


@pytest.mark.parametrize("kernels", KINDS)
@pytest.mark.parametrize("prompt_first", [True, False])
@pytest.mark.parametrize("encoder", ["bert", "modernbert", "deberta-v2"])
def test_in_float64_nothing_is_left_to_rounding(
    encoder: str,
    prompt_first: bool,
    kernels: str,
    make_checkpoint: Checkpoint,
    label_sets: list[LabelSet],
    open_backend: Backend,
    reference: Refer,
) -> None:
    directory = make_checkpoint(encoder, prompt_first=prompt_first, scorer_type="mlp")
    backend = open_backend(directory, dtype=torch.float64, choose_kernels=KINDS[kernels])
    documents = [Document(*pair) for pair in zip(TEXTS, label_sets, strict=True)]
    theirs = reference(directory, torch.float64).logits(TEXTS, label_sets)
    assert_close(by_document(backend, documents, len(documents)), theirs, 1e-6)


@pytest.mark.parametrize(
    ("embed", "extract", "prompt_first", "label_pooling", "text_pooling"),
    [
        (embed, extract, *rest)
        for embed, extract in ((True, True), (False, True), (False, False))
        for rest in product((True, False), ("first", "average"), ("first", "avg"))
    ],
)
def test_where_features_are_taken_from(
    embed: bool,
    extract: bool,
    prompt_first: bool,
    label_pooling: str,
    text_pooling: str,
    make_checkpoint: Checkpoint,
    label_sets: list[LabelSet],
    open_backend: Backend,
    reference: Refer,
) -> None:
    directory = make_checkpoint(
        "modernbert",
        embed_class_token=embed,
        extract_text_features=extract,
        prompt_first=prompt_first,
        class_token_pooling=label_pooling,
        pooling_strategy=text_pooling,
    )
    check_against_gliclass(directory, label_sets, open_backend, reference, in_batch=text_pooling == "first")


@pytest.mark.parametrize("encoder", ["mmbert", "deberta-v2"])
@pytest.mark.parametrize(
    ("prompt_first", "extract", "segments", "normalise"),
    [*product((True, False), (True, False), (True, False), (True, False))],
)
def test_the_multilingual_family_equals_gliclass(
    encoder: str,
    prompt_first: bool,
    extract: bool,
    segments: bool,
    normalise: bool,
    make_checkpoint: Checkpoint,
    label_sets: list[LabelSet],
    open_backend: Backend,
    reference: Refer,
) -> None:
    """Labels by the mean of their tokens, a text pooled by each label, rows with examples in segment 2."""
    directory = make_checkpoint(
        encoder,
        scorer_type="cross-attn",
        scorer_num_heads=4,
        scorer_mlp_hidden_size=24,
        pooling_strategy="pass",
        class_token_pooling="average",  # noqa: S106 - no password
        prompt_first=prompt_first,
        extract_text_features=extract,
        use_segment_embeddings=segments,
        normalize_features=normalise,
    )
    check_against_gliclass(directory, label_sets, open_backend, reference, in_batch=True)


@pytest.mark.parametrize("scorer", ["simple", "mlp"])
def test_segment_embeddings_with_the_other_scorers(
    scorer: str, make_checkpoint: Checkpoint, label_sets: list[LabelSet], open_backend: Backend, reference: Refer
) -> None:
    directory = make_checkpoint("bert", scorer_type=scorer, use_segment_embeddings=True, prompt_first=True)
    check_against_gliclass(directory, label_sets, open_backend, reference, in_batch=True)


def test_projector_of_another_width_and_activation(
    make_checkpoint: Checkpoint, label_sets: list[LabelSet], open_backend: Backend, reference: Refer
) -> None:
    directory = make_checkpoint("bert", hidden_size=24, projector_hidden_act="tanh", prompt_first=True)
    check_against_gliclass(directory, label_sets, open_backend, reference, in_batch=True)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize(
    ("encoder", "prompt_first"), [("modernbert", True), ("deberta-v2", True), ("deberta-v2", False)]
)
def test_scores_are_those_of_gliclass_pipeline(
    single: bool,
    encoder: str,
    prompt_first: bool,
    make_checkpoint: Checkpoint,
    one_facet: LabelSets,
    open_backend: Backend,
    reference: Refer,
) -> None:
    directory = make_checkpoint(encoder, prompt_first=prompt_first, scorer_type="mlp")
    labels = one_facet([f"label {number}" for number in range(30)])  # more than gliclass's default of 25
    documents = [Document(text, labels) for text in TEXTS]
    for logits, theirs in zip(
        by_document(open_backend(directory), documents, 8),
        reference(directory).scores(TEXTS, labels, single=single),
        strict=True,
    ):
        softmax = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        ours = dict(
            zip((label.wording for label in labels.labels), softmax if single else probability(logits), strict=True)
        )
        assert theirs
        for name, score in theirs.items():
            assert ours[name] == pytest.approx(score, abs=ROUNDING)


@pytest.mark.parametrize(("encoder", "prompt_first"), [("bert", True), ("deberta-v2", True), ("deberta-v2", False)])
def test_facets_apart_equal_one_call_of_gliclass_each(
    encoder: str,
    prompt_first: bool,
    make_checkpoint: Checkpoint,
    one_facet: LabelSets,
    open_backend: Backend,
    reference: Refer,
) -> None:
    directory = make_checkpoint(encoder, prompt_first=prompt_first, scorer_type="mlp")
    topics, moods = one_facet(["billing", "outage", "praise"]), one_facet(["positive", "negative"])
    both = LabelSet("both", (topics.facets[0], Facet("mood", Kind.SINGLE, moods.facets[0].labels)))
    gliclass = reference(directory)
    theirs = [np.concatenate([gliclass.logits([text], [asked])[0] for asked in (topics, moods)]) for text in TEXTS]
    documents = [Document(text, both) for text in TEXTS]
    assert_close(by_document(open_backend(directory), documents, 4), theirs, ROUNDING)


def test_facets_joint_equal_one_call_of_gliclass_with_all_labels(
    make_checkpoint: Checkpoint, one_facet: LabelSets, open_backend: Backend, reference: Refer
) -> None:
    directory = make_checkpoint("bert", prompt_first=True, scorer_type="mlp")
    facets = one_facet(["billing", "outage", "praise"]).facets + one_facet(["positive", "negative"]).facets
    both = LabelSet("both", facets, "Classify: ", one_facet([], examples=[("bill", ("billing", "negative"))]).examples)
    backend = open_backend(directory, facet_mode="joint")
    assert [row.labels for row in backend.rows([Document("a", both)])] == [5]
    documents = [Document(text, both) for text in TEXTS]
    assert_close(by_document(backend, documents, 5), reference(directory).logits(TEXTS, [both] * len(TEXTS)), 1e-6)


@pytest.mark.parametrize(("encoder", "scorer"), [*product(("bert", "modernbert", "deberta-v2"), ("simple", "mlp"))])
def test_bfloat16_stays_within_its_noise(
    encoder: str,
    scorer: str,
    make_checkpoint: Checkpoint,
    one_facet: LabelSets,
    open_backend: Backend,
    reference: Refer,
) -> None:
    """A probability moves by at most .02, and a top label changes only where its margin was below that."""
    directory = make_checkpoint(encoder, prompt_first=True, scorer_type=scorer, normalize_features=True)
    labels = one_facet(["billing", "outage", "praise", "positive", "negative"])
    texts = [*TEXTS, *(" ".join(TEXTS[:3] * times) for times in (1, 2))]
    backend = open_backend(directory, dtype=torch.bfloat16)
    assert backend.describe().dtype == "bfloat16"
    ours = by_document(backend, [Document(text, labels) for text in texts], 4)
    for text, logits in zip(texts, ours, strict=True):
        score, expected = probability(logits), probability(reference(directory).logits([text], [labels])[0])
        assert np.abs(score - expected).max() <= 0.02
        assert expected.max() - expected[score.argmax()] < 0.02
