"""The independent-label model: each logit a function of one text and one label, whatever stands beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from streamer.engine.independent import IndependentLabelModel
from streamer.engine.loading import load_independent

IDS = torch.randint(5, 100, (4, 9), generator=torch.Generator().manual_seed(1))
MASK = torch.arange(9) < torch.tensor([9, 5, 2, 7])[:, None]  # (texts, tokens)
LABEL_IDS = torch.randint(5, 100, (6, 5), generator=torch.Generator().manual_seed(2))
LABEL_MASK = torch.arange(5) < torch.tensor([5, 3, 4, 1, 5, 2])[:, None]  # (labels, tokens)


def assert_close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0.0)


@pytest.fixture(scope="module")
def model(tiny_bundled: Path) -> IndependentLabelModel:
    return load_independent(tiny_bundled)


@pytest.fixture(scope="module")
def vectors(model: IndependentLabelModel) -> Tensor:
    with torch.no_grad():
        return model.encode_labels(LABEL_IDS, LABEL_MASK)


@pytest.fixture(scope="module")
def logits(model: IndependentLabelModel, vectors: Tensor) -> Tensor:
    """All texts against all labels: (4, 6)."""
    with torch.no_grad():
        out: Tensor = model(IDS, MASK, vectors.expand(4, -1, -1))
    return out


def test_logits_differ_by_text_and_label(logits: Tensor) -> None:
    assert logits.shape == (4, 6)
    assert logits.dtype == torch.float32
    assert float(logits.std(0).min()) > 1e-3
    assert float(logits.std(1).min()) > 1e-3


@torch.inference_mode()
def test_label_vectors_are_the_mean_states_of_the_unmodified_encoder(
    model: IndependentLabelModel, vectors: Tensor
) -> None:
    unmodified = BertModel(BertConfig(**model.config.encoder), add_pooling_layer=False)
    unmodified.train(False)
    unmodified.load_state_dict(model.encoder.state_dict())
    for ids, mask, vector in zip(LABEL_IDS, LABEL_MASK, vectors, strict=True):
        reference = unmodified(input_ids=ids[mask].unsqueeze(0)).last_hidden_state[0].mean(0)
        assert_close(vector, reference)


@torch.inference_mode()
def test_each_logit_is_that_of_its_text_and_label_alone(
    model: IndependentLabelModel, vectors: Tensor, logits: Tensor
) -> None:
    for text in range(4):
        ids = IDS[text][MASK[text]].unsqueeze(0)
        for label in range(6):
            alone = model(ids, torch.ones_like(ids, dtype=torch.bool), vectors[label].view(1, 1, -1))
            assert_close(alone[0, 0], logits[text, label])


@torch.inference_mode()
def test_reordering_labels_reorders_logits(model: IndependentLabelModel, vectors: Tensor, logits: Tensor) -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert_close(model(IDS, MASK, vectors[order].expand(4, -1, -1)), logits[:, order])


def test_training_and_inference_paths_agree(model: IndependentLabelModel, vectors: Tensor, logits: Tensor) -> None:
    with torch.enable_grad():
        trained = model(IDS, MASK, vectors.expand(4, -1, -1))
    assert trained.requires_grad
    assert_close(trained.detach(), logits)


@torch.inference_mode()
def test_queries_can_be_kept(model: IndependentLabelModel, vectors: Tensor, logits: Tensor) -> None:
    kept = model.queries(vectors.unsqueeze(0))
    scored = model.score(IDS, MASK, vectors.expand(4, -1, -1), kept.expand(4, -1, -1))
    assert_close(scored, logits)


@torch.inference_mode()
def test_more_labels_than_positions(model: IndependentLabelModel, vectors: Tensor, logits: Tensor) -> None:
    many = vectors.repeat(50, 1)  # 300 labels, 48 positions
    assert_close(model(IDS, MASK, many.expand(4, -1, -1))[:, -6:], logits)


@torch.inference_mode()
def test_an_encoder_in_bfloat16_keeps_to_the_noise_rule(tiny_bundled: Path, vectors: Tensor, logits: Tensor) -> None:
    half = load_independent(tiny_bundled)
    half.encoder.bfloat16()
    rough = half(IDS, MASK, half.encode_labels(LABEL_IDS, LABEL_MASK).expand(4, -1, -1))
    assert rough.dtype == torch.float32
    assert float((rough.sigmoid() - logits.sigmoid()).abs().max()) <= 0.02
