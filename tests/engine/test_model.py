"""The uni-encoder as a backend: a document's logits depend on nothing but itself and its label set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.engine.base import Backend
from streamer.engine.loading import load_uniencoder, read_tokenizer
from streamer.engine.uniencoder import UniEncoderBackend
from streamer.engine.varlen import choose_kernels
from streamer.errors import UsageError
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Document

Checkpoint = Callable[..., Path]
OpenBackend = Callable[..., UniEncoderBackend]
LabelSets = Callable[..., LabelSet]

TWO_FACETS = LabelSet(
    "tickets",
    (
        Facet("topic", Kind.MULTI, tuple(map(Label, ("billing", "outage", "praise", "hardware.laptop")))),
        Facet("mood", Kind.SINGLE, tuple(map(Label, ("positive", "negative")))),
    ),
)


def test_describes_itself(make_checkpoint: Checkpoint, open_backend: OpenBackend) -> None:
    backend: Backend = open_backend(make_checkpoint("bert"), max_row_tokens=100)
    info = backend.describe()
    assert (info.name, info.device, info.dtype, info.window_tokens) == ("tiny", "cpu", "float32", 100)
    assert len(info.revision) == 12
    assert open_backend(make_checkpoint("bert")).describe().window_tokens == 160, "positions of the encoder"


@given(
    texts=st.lists(st.text("abcdefgh <>.", max_size=60), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    head=st.sampled_from(
        [
            *product(("bert", "modernbert", "deberta-v2"), ("first", "average"), ("first", "avg"), ("mlp",)),
            *product(("mmbert", "deberta-v2"), ("average",), ("pass",), ("cross-attn",)),
        ]
    ),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_logits_do_not_depend_on_the_batch(
    make_checkpoint: Checkpoint,
    open_backend: OpenBackend,
    texts: list[str],
    order: Random,
    head: tuple[str, str, str, str],
) -> None:
    encoder, label_pooling, text_pooling, scorer = head
    directory = make_checkpoint(
        encoder, class_token_pooling=label_pooling, pooling_strategy=text_pooling, scorer_type=scorer
    )
    backend = open_backend(directory)
    rows = backend.rows([Document(text, TWO_FACETS) for text in texts])
    alone = [backend.forward([row])[0] for row in rows]
    shuffled = list(range(len(rows)))
    order.shuffle(shuffled)
    together = backend.forward([rows[index] for index in shuffled])
    for index, logits in zip(shuffled, together, strict=True):
        own = rows[index].labels
        np.testing.assert_allclose(logits[:own], alone[index][:own], rtol=1e-5, atol=1e-5)


def test_logits_are_finite_float32_as_wide_as_the_row_with_most_labels(
    make_checkpoint: Checkpoint, open_backend: OpenBackend
) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        backend = open_backend(make_checkpoint("modernbert", normalize_features=True), dtype=dtype)
        logits = backend.forward(backend.rows([Document("the phone is dead", TWO_FACETS), Document("", TWO_FACETS)]))
        assert logits.dtype == np.float32
        assert logits.shape == (4, 4)
        assert np.isfinite(logits).all()


def test_distances_bound_no_row(make_checkpoint: Checkpoint, open_backend: OpenBackend) -> None:
    """DeBERTa has no position beyond which it cannot go: rows are as long as the settings allow."""
    backend = open_backend(make_checkpoint("deberta-v2"), max_row_tokens=300)  # trained on rows of 64
    assert backend.describe().window_tokens == 300
    rows = backend.rows([Document("the phone is dead. " * 200, TWO_FACETS)])
    assert [len(row.ids) for row in rows] == [300, 300]
    assert np.isfinite(backend.forward(rows)).all()


@pytest.mark.parametrize("encoder", ["bert", "deberta-v2"])
@pytest.mark.parametrize("prompt_first", [True, False])
def test_a_text_cut_to_the_window_keeps_every_label(
    prompt_first: bool, encoder: str, make_checkpoint: Checkpoint, open_backend: OpenBackend
) -> None:
    directory = make_checkpoint(encoder, prompt_first=prompt_first)
    backend = open_backend(directory, max_row_tokens=160)
    label = read_tokenizer(directory).token_to_id("<<LABEL>>")
    rows = backend.rows([Document("the phone is dead. " * 200, TWO_FACETS)])
    for row in rows:
        assert row.truncated
        assert len(row.ids) == backend.describe().window_tokens
        assert sum(index == label for index in row.ids) == row.labels
    assert np.isfinite(backend.forward(rows)).all()


@pytest.mark.parametrize("encoder", ["bert", "deberta-v2"])
def test_a_marker_in_a_text_adds_no_label(encoder: str, make_checkpoint: Checkpoint, open_backend: OpenBackend) -> None:
    backend = open_backend(make_checkpoint(encoder))
    plain, forged = (backend.rows([Document(text, TWO_FACETS)])[0] for text in ("< <LABEL>>spam", "<<LABEL>>spam"))
    np.testing.assert_array_equal(backend.forward([plain]), backend.forward([forged]))


def test_label_sets_are_checked_before_any_document(make_checkpoint: Checkpoint, open_backend: OpenBackend) -> None:
    backend = open_backend(make_checkpoint("bert"), max_row_tokens=20)
    with pytest.raises(UsageError, match="label set 'tickets', facet 'topic'"):
        backend.prepare(TWO_FACETS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_token_index": 5}, "gives <<LABEL>> the id"),
        ({"extract_text_features": True, "text_token_index": 5}, "gives <<SEP>> the id"),
        ({}, "the model only"),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(
    changed: dict[str, Any], message: str, make_checkpoint: Checkpoint
) -> None:
    directory = make_checkpoint("bert")
    model, tokenizer = load_uniencoder(directory, dtype=torch.float32), read_tokenizer(directory)
    model.config = replace(model.config, **changed)
    if not changed:
        tokenizer.add_tokens(["beyond"])
    with pytest.raises(UsageError, match=message):
        UniEncoderBackend(
            model=model,
            tokenizer=tokenizer,
            facet_mode="separate",
            device=torch.device("cpu"),
            choose_kernels=choose_kernels,
            max_row_tokens=100,
            name="tiny",
            revision="0",
        )
