"""ModernBERT over a flat batch: as `flat_bert.py`, with rotated positions, local layers and gated wide layers.

Enters: a transformers ModernBertModel, then embedded words of a FlatBatch. Leaves: hidden states, equal to those of the
module itself.

Must not know: what the states stand for, tokenizers, Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.models.modernbert.modeling_modernbert import ModernBertEncoderLayer, ModernBertModel

from streamer.engine.flat import FlatBatch, FlatKernels, Wanted
from streamer.engine.linear import projection

Rotation: TypeAlias = tuple[Tensor, Tensor]  # cosines and sines, (tokens, 1, head_dim)


class FlatModernBert:
    """The layers of a ModernBertModel; the module itself is no longer needed but for what is not a layer."""

    def __init__(self, encoder: ModernBertModel, kernels: FlatKernels) -> None:
        self._kernels = kernels
        self._embeddings = encoder.embeddings
        self._rotary = encoder.rotary_emb
        self._norm = encoder.final_norm
        act = ACT2FN[encoder.config.hidden_activation]
        gated, rotated = kernels.fused(lambda wide: _gated(wide, act)), kernels.fused(_rotated)
        self._layers = [
            _Layer(cast(ModernBertEncoderLayer, layer), kernels, gated, rotated) for layer in encoder.layers
        ]

    def wanted_states(self, words: Tensor, positions: Tensor, batch: FlatBatch, wanted: Wanted) -> Tensor:
        """Embedded words (tokens, hidden), positions (tokens,) -> last states of the wanted tokens (wanted, hidden).

        No queries in the batch.
        """
        in_usual_size = self._kernels.in_usual_size
        states, positions = self._embeddings(inputs_embeds=in_usual_size(words)), in_usual_size(positions)
        rotations = {
            kind: self._rotation(states, positions, kind) for kind in {layer.attention_type for layer in self._layers}
        }
        for layer in self._layers[:-1]:
            states = layer(states, batch, rotations)
        return cast(Tensor, self._norm(self._layers[-1].of_wanted(states, wanted, rotations)))

    def _rotation(self, states: Tensor, positions: Tensor, attention_type: str) -> Rotation:
        cosines, sines = self._rotary(states, positions.unsqueeze(0), attention_type)
        return cosines[0].unsqueeze(1), sines[0].unsqueeze(1)


class _Layer:
    """Norm, attention, sum; norm, gated wide projection, sum."""

    def __init__(
        self,
        layer: ModernBertEncoderLayer,
        kernels: FlatKernels,
        gated: Callable[..., Tensor],
        rotated: Callable[..., Tensor],
    ) -> None:
        attention, mlp = layer.attn, layer.mlp
        self._kernels, self._gated, self._turn = kernels, gated, rotated
        self.attention_type = str(layer.attention_type)
        self._head_dim = int(attention.head_dim)
        self._heads = attention.Wqkv.out_features // 3 // self._head_dim
        self._reach: int | None = None
        if self.attention_type == "sliding_attention":
            self._reach = int(attention.sliding_window) - 1  # the module counts the token itself
        self._norm = cast(nn.Module, layer.attn_norm)
        self._qkv = projection(attention.Wqkv.weight, attention.Wqkv.bias)
        self._out = projection(attention.Wo.weight, attention.Wo.bias)
        self._wide_norm = cast(nn.Module, layer.mlp_norm)
        self._wide = projection(mlp.Wi.weight, mlp.Wi.bias)
        self._narrow = projection(mlp.Wo.weight, mlp.Wo.bias)

    def __call__(self, states: Tensor, batch: FlatBatch, rotations: Mapping[str, Rotation]) -> Tensor:
        qkv = self._rotated(states, rotations)
        attended = self._kernels.attend(qkv, batch, self._heads, reach=self._reach)
        return self._after_attention(attended, states)

    def of_wanted(self, states: Tensor, wanted: Wanted, rotations: Mapping[str, Rotation]) -> Tensor:
        qkv = self._rotated(states, rotations)
        hidden = self._heads * self._head_dim
        index = self._kernels.in_usual_size(wanted.index)
        attended = self._kernels.attend_from(
            qkv[index, :hidden], qkv[:, hidden:], wanted, self._heads, reach=self._reach
        )
        return self._after_attention(attended, states[index])[: len(wanted.index)]

    def _rotated(self, states: Tensor, rotations: Mapping[str, Rotation]) -> Tensor:
        return self._turn(self._qkv(self._norm(states)), *rotations[self.attention_type])

    def _after_attention(self, attended: Tensor, states: Tensor) -> Tensor:
        states = self._out.plus(attended, states)
        return self._narrow.plus(self._gated(self._wide(self._wide_norm(states))), states)


def _rotated(qkv: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Query, key and value side by side (tokens, 3 * hidden) -> the same, the first two turned by their positions.

    In float32, as in the module; cosines and sines (tokens, 1, head_dim).
    """
    hidden = qkv.shape[-1] // 3
    exact = qkv[:, : 2 * hidden].view(len(qkv), -1, cosines.shape[-1]).float()  # (tokens, 2 * heads, head_dim)
    first, second = exact.chunk(2, dim=-1)
    turned = exact * cosines + torch.cat((-second, first), dim=-1) * sines
    return torch.cat((turned.flatten(1).to(qkv.dtype), qkv[:, 2 * hidden :]), dim=-1)


def _gated(wide: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
    """(tokens, 2 * width) -> (tokens, width)."""
    states, gate = wide.chunk(2, dim=-1)
    return act(states) * gate
