"""Disentangled attention against its slow twin, transformers' DebertaV2Model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DebertaV2Config, DebertaV2Model

from streamer.engine.deberta import DisentangledEncoder

# around the bucket of 8 and the farthest distance of 39; the rows of 620 tokens are attended to one at a time
LENGTHS = (1, 2, 8, 9, 40, 41, 100, 620, 41, 2)

# of what a checkpoint's config may say about relative positions
VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm_rel_ebd": "none"},
    {"max_relative_positions": 24},
    {"position_buckets": -1},
    {"position_buckets": -1, "max_relative_positions": 12},
    {"pos_att_type": ["c2p", "p2c"], "hidden_act": "relu"},
]


def make_model(**changed: Any) -> DebertaV2Model:
    """DeBERTa-v3's kind; weights large enough that attention is sharp."""
    usual: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
        "relative_attention": True,
        "position_buckets": 16,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "layer_norm_eps": 1e-7,
    }
    model = DebertaV2Model(DebertaV2Config(**usual | changed))
    model.train(False)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                spread = 1.0 if "embeddings" in name else 1.5 * weight.shape[-1] ** -0.5
                weight.normal_(0.0, spread, generator=generator)
    return model


def batch(tokens: int) -> tuple[Tensor, Tensor]:
    """Ids and mask (5, tokens): full, half, one token, and full again."""
    ids = torch.randint(1, 50, (5, tokens), generator=torch.Generator().manual_seed(tokens))
    lengths = torch.tensor([tokens, (tokens + 1) // 2, 1, tokens, tokens])
    return ids, torch.arange(tokens) < lengths[:, None]


def embed(model: DebertaV2Model, ids: Tensor) -> Tensor:
    embedded: Tensor = model.embeddings.LayerNorm(model.embeddings.word_embeddings(ids))
    return embedded


@torch.inference_mode()
@pytest.mark.parametrize("changed", VARIANTS)
def test_states_are_those_of_transformers(changed: dict[str, Any]) -> None:
    """In float32, within 1e-5 where a state is of size one to three; lengths in any order, tables kept between."""
    model = make_model(**changed)
    ours = DisentangledEncoder(model)
    for tokens in LENGTHS:
        ids, mask = batch(tokens)
        states = ours(embed(model, ids), mask)
        expected = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(states[mask], expected[mask], atol=1e-5, rtol=0.0)
        assert torch.isfinite(states).all()


@torch.inference_mode()
def test_what_is_padded_does_not_matter() -> None:
    model = make_model()
    ours = DisentangledEncoder(model)
    ids, mask = batch(20)
    changed = ids.masked_fill(~mask, 7)
    torch.testing.assert_close(
        ours(embed(model, ids), mask)[mask], ours(embed(model, changed), mask)[mask], atol=1e-6, rtol=0.0
    )


@torch.inference_mode()
def test_bfloat16_is_as_close_as_transformers_in_bfloat16() -> None:
    """Rounding in every layer moves states by a few hundredths; ours by no more than half again of what theirs do."""
    exact, half = make_model(), make_model().bfloat16()
    ours = DisentangledEncoder(half)
    for tokens in (9, 40, 100):
        ids, mask = batch(tokens)
        expected = exact(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask]
        theirs = half(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask].float()
        states = ours(embed(half, ids), mask)
        assert states.dtype == torch.bfloat16
        off, allowed = (states[mask].float() - expected).abs(), (theirs - expected).abs()
        assert float(off.mean()) <= 1.5 * float(allowed.mean())
        assert float(off.mean()) < 0.05
