"""Attention of independent label queries: one BERT encoder, two kinds of token.

Enters: hidden states of a text and of its label queries. Leaves: both, one layer on. Text attends to text;
a query attends to the text and to itself, never to another query. So no (text + labels)^2 mask exists, and
a label's states cannot depend on which other labels are asked for.

Must not know: tokens, facets, Kafka.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from streamer.engine.bert import Bert, BertLayer


def query_attention(
    query: Tensor, key: Tensor, value: Tensor, own_key: Tensor, own_value: Tensor, bias: Tensor
) -> Tensor:
    """Attend from each query to all text positions and to itself.

    Shapes: query, own_key, own_value (batch, heads, queries, head_dim); key, value (batch, heads, tokens,
    head_dim); bias (batch, 1, 1, tokens), 0 for a real token and a large negative number for padding.
    Returns (batch, heads, queries, head_dim). The softmax runs over tokens + 1 scores in float32.
    """
    scale = query.shape[-1] ** -0.5
    to_text = (query @ key.transpose(-1, -2)).float() * scale + bias  # (batch, heads, queries, tokens)
    to_self = (query * own_key).float().sum(-1, keepdim=True) * scale  # (batch, heads, queries, 1)
    weights = torch.cat([to_text, to_self], dim=-1).softmax(-1).to(value.dtype)
    return weights[..., :-1] @ value + weights[..., -1:] * own_value


def text_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attend among text tokens: tensors (batch, heads, tokens, head_dim), mask (batch, 1, 1, tokens) bool.

    Training writes the product out: on a CPU the backward pass of the fused kernel costs several times more at
    these lengths. Inference takes the fused kernel; the tests hold both to the same result.
    """
    if not torch.is_grad_enabled():
        return scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = (query @ key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5
    weights: Tensor = scores.masked_fill(~mask, -1e9).softmax(-1).to(value.dtype)
    return weights @ value


def _heads(states: Tensor, heads: int) -> Tensor:
    """(batch, tokens, hidden) -> (batch, heads, tokens, head_dim)."""
    batch, tokens, hidden = states.shape
    return states.view(batch, tokens, heads, hidden // heads).transpose(1, 2)


def _layer(layer: BertLayer, states: Tensor, tokens: int, text_mask: Tensor, bias: Tensor) -> Tensor:
    """One encoder layer over text and queries side by side; `tokens` splits them along dimension 1."""
    attention = layer.attention.self
    heads = attention.num_attention_heads
    query = _heads(attention.query(states), heads)
    key = _heads(attention.key(states), heads)
    value = _heads(attention.value(states), heads)
    mixed = [text_attention(query[:, :, :tokens], key[:, :, :tokens], value[:, :, :tokens], text_mask)]
    if states.shape[1] > tokens:
        mixed.append(
            query_attention(
                query[:, :, tokens:],
                key[:, :, :tokens],
                value[:, :, :tokens],
                key[:, :, tokens:],
                value[:, :, tokens:],
                bias,
            )
        )
    out = torch.cat(mixed, dim=2).transpose(1, 2).flatten(2)  # (batch, tokens + queries, hidden)
    attended = layer.attention.output(out, states)
    return cast(Tensor, layer.output(layer.intermediate(attended), attended))


def encode_with_queries(encoder: Bert, embedded: Tensor, tokens: int, mask: Tensor) -> Tensor:
    """Run all layers of a BERT encoder over text tokens followed by independent queries.

    Shapes: embedded (batch, tokens + queries, hidden), already through the embedding layer norm; mask
    (batch, tokens) bool, True for a real text token. Returns hidden states of the same shape as `embedded`;
    rows of padding hold finite values without meaning.
    """
    text_mask = mask[:, None, None, :]
    bias = torch.zeros_like(text_mask, dtype=torch.float32).masked_fill_(~text_mask, -1e9)
    states = embedded
    for layer in encoder.encoder.layer:
        states = _layer(cast(BertLayer, layer), states, tokens, text_mask, bias)
    return states
