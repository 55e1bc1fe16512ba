"""BERT over a flat batch: every layer takes one list of tokens, without padding.

Enters: a transformers BertModel, then embedded states of a FlatBatch. Leaves: hidden states, equal to those of the
module's own layers. The weights are laid out once (see `linear.py`).

Must not know: what the states stand for, tokenizers, Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.models.bert.modeling_bert import BertLayer, BertModel

from streamer.engine.flat import FlatBatch, Wanted, attend, attend_from
from streamer.engine.linear import Projection, projection


class FlatBert:
    """The layers of a BertModel; the module itself is no longer needed but for its embeddings."""

    def __init__(self, encoder: BertModel) -> None:
        self._embeddings = encoder.embeddings
        activation = str(encoder.config.hidden_act)
        self._layers = [_Layer(cast(BertLayer, layer), activation) for layer in encoder.encoder.layer]
        self._last = _LastLayer(cast(BertLayer, encoder.encoder.layer[-1]), activation)

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """ids, positions (tokens,) -> (tokens, hidden)."""
        embedded: Tensor = self._embeddings(input_ids=ids.unsqueeze(0), position_ids=positions.unsqueeze(0))
        return embedded[0]

    def states(self, embedded: Tensor, batch: FlatBatch) -> Tensor:
        """All layers over all tokens and queries: (tokens + queries, hidden) -> the same."""
        states = embedded
        for layer in self._layers:
            states = layer(states, batch)
        return states

    def wanted_states(self, words: Tensor, positions: Tensor, batch: FlatBatch, wanted: Wanted) -> Tensor:
        """Embedded words (tokens, hidden), positions (tokens,) -> last states of the wanted tokens (wanted, hidden).

        No queries in the batch.
        """
        states = self._embeddings(inputs_embeds=words.unsqueeze(0), position_ids=positions.unsqueeze(0))[0]
        for layer in self._layers[:-1]:
            states = layer(states, batch)
        return self._last(states, wanted)


class _Layer:
    """Attention, projection, norm, two wide projections, norm."""

    def __init__(self, layer: BertLayer, activation: str) -> None:
        own = layer.attention.self
        self.heads = int(own.num_attention_heads)
        self._qkv = _side_by_side((own.query, own.key, own.value))
        self._out = projection(layer.attention.output.dense.weight, layer.attention.output.dense.bias)
        self._out_norm = layer.attention.output.LayerNorm
        self._widen = _activated(projection(layer.intermediate.dense.weight, layer.intermediate.dense.bias), activation)
        self._narrow = projection(layer.output.dense.weight, layer.output.dense.bias)
        self._norm = layer.output.LayerNorm

    def __call__(self, states: Tensor, batch: FlatBatch) -> Tensor:
        return self.after_attention(attend(self._qkv(states), batch, self.heads), states)

    def after_attention(self, attended: Tensor, states: Tensor) -> Tensor:
        states = self._out_norm(self._out.plus(attended, states))
        return cast(Tensor, self._norm(self._narrow.plus(self._widen(states), states)))


class _LastLayer:
    """The same for the wanted tokens alone."""

    def __init__(self, layer: BertLayer, activation: str) -> None:
        own = layer.attention.self
        self._rest = _Layer(layer, activation)
        self._query = _side_by_side((own.query,))
        self._key_value = _side_by_side((own.key, own.value))

    def __call__(self, states: Tensor, wanted: Wanted) -> Tensor:
        asking = states[wanted.index]
        attended = attend_from(self._query(asking), self._key_value(states), wanted, self._rest.heads)
        return self._rest.after_attention(attended, asking)


def _side_by_side(parts: Sequence[nn.Linear]) -> Projection:
    return projection(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))


def _activated(wide: Projection, activation: str) -> Callable[[Tensor], Tensor]:
    if activation == "gelu":
        return wide.gelu
    act = ACT2FN[activation]
    return lambda states: cast(Tensor, act(wide(states)))
