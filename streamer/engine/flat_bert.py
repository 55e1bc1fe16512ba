"""BERT over a flat batch: every layer takes one list of tokens, without padding.

Enters: a Bert, or a transformers BertModel, whose parts bear the same names; then embedded states of a FlatBatch.
Leaves: hidden states, equal to those of the module's own layers. The weights are laid out once (see `linear.py`).

Must not know: what the states stand for, tokenizers, Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from torch import Tensor, nn

from streamer.engine.bert import Bert, BertLayer
from streamer.engine.flat import FlatBatch, FlatKernels, Wanted
from streamer.engine.linear import Projection, projection

if TYPE_CHECKING:
    from transformers.models.bert.modeling_bert import BertModel

Encoder: TypeAlias = "Bert | BertModel"


class FlatBert:
    """The layers of an encoder; the module itself is no longer needed but for its embeddings."""

    def __init__(self, encoder: Encoder, kernels: FlatKernels) -> None:
        self._kernels = kernels
        self._embeddings = encoder.embeddings
        activation = str(encoder.config.hidden_act)
        self._layers = [_Layer(cast(BertLayer, layer), activation, kernels) for layer in encoder.encoder.layer]
        self._last = _LastLayer(cast(BertLayer, encoder.encoder.layer[-1]), activation, kernels)

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """ids, positions (tokens,) -> (tokens, hidden)."""
        return self._in_place(self._embeddings.word_embeddings(ids), positions)

    def states(self, embedded: Tensor, batch: FlatBatch) -> Tensor:
        """All layers over all tokens and queries: (tokens + queries, hidden) -> the same."""
        states = self._kernels.in_usual_size(embedded)
        for layer in self._layers:
            states = layer(states, batch)
        return states[: len(embedded)]

    def wanted_states(self, words: Tensor, positions: Tensor, batch: FlatBatch, wanted: Wanted) -> Tensor:
        """Embedded words (tokens, hidden), positions (tokens,) -> last states of the wanted tokens (wanted, hidden).

        No queries in the batch.
        """
        in_usual_size = self._kernels.in_usual_size
        states = self._in_place(in_usual_size(words), in_usual_size(positions))
        for layer in self._layers[:-1]:
            states = layer(states, batch)
        return self._last(states, wanted)

    def _in_place(self, words: Tensor, positions: Tensor) -> Tensor:
        """What the module does, but with indices of any integer type: words (tokens, hidden) -> the same."""
        of_type = words + self._embeddings.token_type_embeddings.weight[0]
        return cast(Tensor, self._embeddings.LayerNorm(of_type + self._embeddings.position_embeddings(positions)))


class _Layer:
    """Attention, projection, norm, two wide projections, norm."""

    def __init__(self, layer: BertLayer, activation: str, kernels: FlatKernels) -> None:
        own = layer.attention.self
        self.heads = int(own.num_attention_heads)
        self._kernels = kernels
        self._qkv = side_by_side((own.query, own.key, own.value))
        self._out = projection(layer.attention.output.dense.weight, layer.attention.output.dense.bias)
        self._out_norm = layer.attention.output.LayerNorm
        self._widen = activated(projection(layer.intermediate.dense.weight, layer.intermediate.dense.bias), activation)
        self._narrow = projection(layer.output.dense.weight, layer.output.dense.bias)
        self._norm = layer.output.LayerNorm

    def __call__(self, states: Tensor, batch: FlatBatch) -> Tensor:
        return self.after_attention(self._kernels.attend(self._qkv(states), batch, self.heads), states)

    def after_attention(self, attended: Tensor, states: Tensor) -> Tensor:
        states = self._out_norm(self._out.plus(attended, states))
        return cast(Tensor, self._norm(self._narrow.plus(self._widen(states), states)))


class _LastLayer:
    """The same for the wanted tokens alone."""

    def __init__(self, layer: BertLayer, activation: str, kernels: FlatKernels) -> None:
        own = layer.attention.self
        self._kernels = kernels
        self._rest = _Layer(layer, activation, kernels)
        self._query = side_by_side((own.query,))
        self._key_value = side_by_side((own.key, own.value))

    def __call__(self, states: Tensor, wanted: Wanted) -> Tensor:
        asking = self._kernels.in_usual_size(states[wanted.index])
        attended = self._kernels.attend_from(self._query(asking), self._key_value(states), wanted, self._rest.heads)
        return self._rest.after_attention(attended, asking)[: len(wanted.index)]


def side_by_side(parts: Sequence[nn.Linear]) -> Projection:
    """Linear layers of one input as one: their outputs in this order."""
    return projection(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))


def activated(wide: Projection, activation: str) -> Callable[[Tensor], Tensor]:
    """A projection with what transformers calls `activation` behind it."""
    if activation == "gelu":
        return wide.gelu
    from transformers.activations import ACT2FN  # heavy, and the bundled model never gets here

    act = ACT2FN[activation]
    return lambda states: cast(Tensor, act(wide(states)))
