"""DeBERTa-v2 over a flat batch: as `flat_bert.py`, with attention that minds distances.

Enters: a transformers DebertaV2Model, then embedded words of a FlatBatch. Leaves: hidden states, equal to those of the
module itself. What a score is, and how the products of tokens with distances become one, see `deberta.py`. Attention
goes by runs of equally long sequences, which suits a CPU: nothing is padded, and no distance is multiplied with that
no pair of tokens has.

Must not know: what the states stand for, tokenizers, Kafka.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import DebertaV2Model
from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Layer

from streamer.engine.deberta import DistancePlaces, by_distance, scores_at_a_time
from streamer.engine.flat import FlatBatch, Run, Wanted
from streamer.engine.flat_bert import activated, side_by_side
from streamer.engine.linear import padded_rows, projection


class FlatDeberta:
    """The layers of a DebertaV2Model; the module itself is no longer needed but for what is not a layer."""

    def __init__(self, encoder: DebertaV2Model) -> None:
        self._norm = encoder.embeddings.LayerNorm
        self._places = DistancePlaces(encoder.config)
        activation = str(encoder.config.hidden_act)
        with torch.no_grad():
            positions = encoder.encoder.get_rel_embedding()  # type: ignore[no-untyped-call]
            self._layers = [
                _Layer(cast(DebertaV2Layer, layer), activation, positions) for layer in encoder.encoder.layer
            ]

    def wanted_states(self, words: Tensor, positions: Tensor, batch: FlatBatch, wanted: Wanted) -> Tensor:
        """Embedded words (tokens, hidden) -> last states of the wanted tokens (wanted, hidden).

        `positions` are of no use here: only distances count. No queries in the batch.
        """
        rising = [self._places.rising(run.tokens, words.device) for run in batch.runs]
        states = self._norm(padded_rows(words))
        for layer in self._layers[:-1]:
            states = layer.after_attention(layer.attend(states, batch, rising), states)
        last = self._layers[-1]
        attended = last.attend(states, batch, rising)
        index = padded_rows(wanted.index)
        return last.after_attention(attended[index], states[index])[: len(wanted.index)]


class _Layer:
    """Attention, projection, norm, two wide projections, norm."""

    def __init__(self, layer: DebertaV2Layer, activation: str, positions: Tensor) -> None:
        own = layer.attention.self
        self._heads = int(own.num_attention_heads)
        self._scale = (3 * own.query_proj.out_features // self._heads) ** -0.5
        # of all positions, the scores' scale already in them: (2 * span, hidden)
        self._position_keys = own.key_proj(positions) * self._scale
        self._position_queries = own.query_proj(positions) * self._scale
        self._qkv = side_by_side((own.query_proj, own.key_proj, own.value_proj))
        self._out = projection(layer.attention.output.dense.weight, layer.attention.output.dense.bias)
        self._out_norm = layer.attention.output.LayerNorm
        self._widen = activated(projection(layer.intermediate.dense.weight, layer.intermediate.dense.bias), activation)
        self._narrow = projection(layer.output.dense.weight, layer.output.dense.bias)
        self._norm = layer.output.LayerNorm

    def attend(self, states: Tensor, batch: FlatBatch, rising: list[Tensor]) -> Tensor:
        """(tokens, hidden) -> the same shape; `rising` are the places of each run's distances."""
        qkv = self._qkv(states)
        out = torch.empty_like(states)
        out[batch.tokens :] = 0
        for run, places in zip(batch.runs, rising, strict=True):
            keys, queries = self._position_keys[places.flip(0)], self._position_queries[places]
            step = scores_at_a_time(states.device, self._heads * run.tokens * len(places))
            for first in range(0, run.sequences, step):
                part = _part(run, first, min(step, run.sequences - first))
                mixed = self._mix(part.of_tokens(qkv), keys, queries)
                part.of_tokens(out).copy_(mixed.transpose(1, 2).flatten(2))
        return out

    def after_attention(self, attended: Tensor, states: Tensor) -> Tensor:
        states = self._out_norm(self._out.plus(attended, states))
        return cast(Tensor, self._norm(self._narrow.plus(self._widen(states), states)))

    def _mix(self, qkv: Tensor, position_keys: Tensor, position_queries: Tensor) -> Tensor:
        """(sequences, tokens, 3 * hidden) -> (sequences, heads, tokens, head_dim)."""
        query, key, value = qkv.chunk(3, dim=-1)
        bias = by_distance(query, position_keys, self._heads)
        bias = bias + by_distance(key, position_queries, self._heads).transpose(-1, -2)
        shape = (*query.shape[:2], self._heads, -1)
        q, k, v = (part.reshape(shape).transpose(1, 2) for part in (query, key, value))
        return scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self._scale)


def _part(run: Run, first: int, sequences: int) -> Run:
    """Some sequences of a run that has no queries."""
    return Run(sequences, run.tokens, 0, run.first_token + first * run.tokens, 0)
