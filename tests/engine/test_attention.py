"""The fast attention against slow twins: products written out, and one big explicit mask."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from streamer.engine.attention import encode_with_queries, query_attention, text_attention
from streamer.engine.bert import Bert, BertLayer, bert_shape

BATCH, HEADS, TOKENS, LABELS, WIDTH = 3, 4, 7, 5, 8
CONFIG = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
}
LENGTHS = torch.tensor([7, 4, 1])
MASK = torch.arange(TOKENS) < LENGTHS[:, None]  # (batch, tokens)


def assert_close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0.0)


@pytest.fixture(scope="module")
def states() -> tuple[Tensor, Tensor, Tensor]:
    """Query, key, value of text and labels side by side: (batch, heads, tokens + labels, width)."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(3, BATCH, HEADS, TOKENS + LABELS, WIDTH, generator=generator)
    return drawn[0], drawn[1], drawn[2]


@pytest.fixture(scope="module")
def encoder() -> Bert:
    model = Bert(bert_shape(CONFIG))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "LayerNorm" not in name:
                weight.normal_(0.0, 0.2, generator=generator)
    return model


def whole_mask(mask: Tensor, labels: int) -> Tensor:
    """(batch, tokens) -> (batch, tokens + labels, tokens + labels): who may attend to whom, spelled out."""
    batch, tokens = mask.shape
    allowed = torch.zeros(batch, tokens + labels, tokens + labels, dtype=torch.bool)
    allowed[:, :, :tokens] = mask[:, None, :]
    own = torch.arange(tokens, tokens + labels)
    allowed[:, own, own] = True
    return allowed


def plain_attention(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    weights: Tensor = scores.masked_fill(~allowed[:, None], -1e9).softmax(-1)
    return weights @ value


def test_whole_mask_lets_labels_see_the_text_and_themselves() -> None:
    allowed = whole_mask(torch.tensor([[True, True, False]]), 2)[0].int().tolist()
    assert allowed == [[1, 1, 0, 0, 0]] * 3 + [[1, 1, 0, 1, 0], [1, 1, 0, 0, 1]]


def test_fused_text_attention_is_the_one_written_out(states: tuple[Tensor, Tensor, Tensor]) -> None:
    query, key, value = (s[:, :, :TOKENS] for s in states)
    mask = MASK[:, None, None, :]
    with torch.enable_grad():
        written = text_attention(query, key, value, mask)
    with torch.inference_mode():
        fused = text_attention(query, key, value, mask)
    assert_close(fused, written)
    assert_close(fused, plain_attention(query, key, value, whole_mask(MASK, 0)))


def test_query_attention_is_plain_attention_under_the_whole_mask(states: tuple[Tensor, Tensor, Tensor]) -> None:
    query, key, value = states
    bias = torch.zeros(BATCH, 1, 1, TOKENS).masked_fill(~MASK[:, None, None, :], -1e9)
    fast = query_attention(
        query[:, :, TOKENS:], key[:, :, :TOKENS], value[:, :, :TOKENS], key[:, :, TOKENS:], value[:, :, TOKENS:], bias
    )
    slow = plain_attention(query, key, value, whole_mask(MASK, LABELS))[:, :, TOKENS:]
    assert_close(fast, slow)


def slow_encode(encoder: Bert, embedded: Tensor, allowed: Tensor) -> Tensor:
    """Every layer over the whole sequence, masked."""
    states = embedded
    for module in encoder.encoder.layer:
        layer = cast(BertLayer, module)
        own = layer.attention.self
        query, key, value = (
            project(states).unflatten(-1, (own.num_attention_heads, -1)).transpose(1, 2)
            for project in (own.query, own.key, own.value)
        )
        mixed = plain_attention(query, key, value, allowed).transpose(1, 2).flatten(2)
        attended = layer.attention.output(mixed, states)
        states = layer.output(layer.intermediate(attended), attended)
    return states


def embedded_ids(encoder: Bert) -> tuple[Tensor, Tensor]:
    ids = torch.randint(5, 50, (BATCH, TOKENS), generator=torch.Generator().manual_seed(3))
    embedded: Tensor = encoder.embeddings(input_ids=ids)
    return ids, embedded


@torch.inference_mode()
def test_encoder_with_queries_is_one_sequence_under_the_whole_mask(encoder: Bert) -> None:
    _, text = embedded_ids(encoder)
    queries = torch.randn(BATCH, LABELS, 32, generator=torch.Generator().manual_seed(4))
    embedded = torch.cat([text, queries], 1)
    fast = encode_with_queries(encoder, embedded, TOKENS, MASK)
    slow = slow_encode(encoder, embedded, whole_mask(MASK, LABELS))
    real = torch.cat([MASK, torch.ones(BATCH, LABELS, dtype=torch.bool)], 1)
    assert_close(fast[real], slow[real])
    assert torch.isfinite(fast).all()


@torch.inference_mode()
@pytest.mark.parametrize("labels", [0, LABELS])
def test_text_states_are_those_of_the_unmodified_encoder(encoder: Bert, labels: int) -> None:
    ids, text = embedded_ids(encoder)
    queries = torch.randn(BATCH, labels, 32, generator=torch.Generator().manual_seed(5))
    ours = encode_with_queries(encoder, torch.cat([text, queries], 1), TOKENS, MASK)[:, :TOKENS]
    unmodified = BertModel(BertConfig(**CONFIG), add_pooling_layer=False)  # type: ignore[arg-type]
    unmodified.train(False)
    unmodified.load_state_dict(encoder.state_dict())
    reference = unmodified(input_ids=ids, attention_mask=MASK.long()).last_hidden_state
    assert_close(ours[MASK], reference[MASK])


@torch.inference_mode()
def test_a_query_never_sees_another(encoder: Bert) -> None:
    _, text = embedded_ids(encoder)
    queries = torch.randn(BATCH, LABELS, 32, generator=torch.Generator().manual_seed(6))
    together = encode_with_queries(encoder, torch.cat([text, queries], 1), TOKENS, MASK)
    for first, last in pairwise((0, 1, 3, LABELS)):
        apart = encode_with_queries(encoder, torch.cat([text, queries[:, first:last]], 1), TOKENS, MASK)
        assert_close(apart[:, TOKENS:], together[:, TOKENS + first : TOKENS + last])


@torch.inference_mode()
def test_bfloat16_states_are_close(encoder: Bert) -> None:
    """Rounding to 8 bits of mantissa in every layer: a few hundredths of a state of size one, no more."""
    _, text = embedded_ids(encoder)
    queries = torch.randn(BATCH, LABELS, 32, generator=torch.Generator().manual_seed(7))
    embedded = torch.cat([text, queries], 1)
    exact = encode_with_queries(encoder, embedded, TOKENS, MASK)
    half = Bert(encoder.config)
    half.load_state_dict(encoder.state_dict())
    rough = encode_with_queries(half.bfloat16(), embedded.bfloat16(), TOKENS, MASK)
    assert rough.dtype == torch.bfloat16
    real = torch.cat([MASK, torch.ones(BATCH, LABELS, dtype=torch.bool)], 1)
    off = (exact[real] - rough[real].float()).abs()
    assert float(off.mean()) < 0.02
    assert float(off.max()) < 0.15
