"""DeBERTa-v2's encoder at inference: disentangled attention without what repeats in every call.

Enters: embedded tokens. Leaves: hidden states, those of transformers' DebertaV2Model. A score is (arXiv 2006.03654)

    query_i . key_j  +  query_i . key_position[i - j]  +  key_j . query_position[i - j],

divided by sqrt(3 * head_dim). transformers projects the positions anew in every layer of every call, multiplies with
all of them, and picks by an index as large as the scores. Here they are projected once, since they depend on weights
alone; a call multiplies with the 2 * tokens - 1 distances it has; and since each row of scores needs them shifted by
one against the row above, picking is a matter of strides.

Must not know: labels, token ids, files, Kafka.
"""

from __future__ import annotations

from typing import Final, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import DebertaV2Config, DebertaV2Model
from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Layer, make_log_bucket_position

# Scores held at a time: more than fit a CPU's cache only cost time; an accelerator wants few and large kernels.
_CPU_SCORES: Final = 1 << 22
_ACCELERATOR_SCORES: Final = 1 << 28


class DisentangledEncoder:
    """Runs the layers of a DebertaV2Model whose weights do not change any more.

    What it keeps is made at the first call, on the device and in the dtype the model then has: position projections
    (4 * span * hidden numbers a layer, 19 MB in all for DeBERTa-v3-base in bfloat16) and the places of distances.
    """

    def __init__(self, model: DebertaV2Model) -> None:
        config = model.config
        self._encoder = model.encoder
        self._heads = int(config.num_attention_heads)
        self._scale = (3 * config.hidden_size // self._heads) ** -0.5
        self._positions: list[tuple[Tensor, Tensor]] = []  # keys, queries of each layer, both (2 * span, hidden)
        self._places = DistancePlaces(config)

    def __call__(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Run all layers.

        Shapes: embedded (batch, tokens, hidden), already through the embedding layer norm; mask (batch, tokens) bool,
        True for a real token. Returns states shaped as `embedded`; those of padding are finite and without meaning.
        """
        if not self._positions:
            self._positions = [self._project(cast(DebertaV2Layer, layer)) for layer in self._encoder.layer]
        rising = self._places.rising(embedded.shape[1], embedded.device)
        falling = rising.flip(0)
        padding = torch.zeros_like(mask, dtype=embedded.dtype).masked_fill_(~mask, float("-inf"))
        states = embedded
        for module, (keys, queries) in zip(self._encoder.layer, self._positions, strict=True):
            layer = cast(DebertaV2Layer, module)
            mixed = self._mix(layer, states, padding, keys[falling], queries[rising])
            attended = layer.attention.output(mixed, states)
            states = layer.output(layer.intermediate(attended), attended)
        return states

    def _project(self, layer: DebertaV2Layer) -> tuple[Tensor, Tensor]:
        """Keys and queries of all positions, the scores' scale already in them."""
        own = layer.attention.self
        positions = self._encoder.get_rel_embedding()  # type: ignore[no-untyped-call]
        return own.key_proj(positions) * self._scale, own.query_proj(positions) * self._scale

    def _mix(
        self, layer: DebertaV2Layer, states: Tensor, padding: Tensor, position_keys: Tensor, position_queries: Tensor
    ) -> Tensor:
        """Attention of one layer, some rows of the batch at a time: (batch, tokens, hidden) -> the same shape.

        padding (batch, tokens) is added to the scores; the positions are those of the distances at hand, keys from
        the last to the first.
        """
        batch, tokens, _ = states.shape
        step = scores_at_a_time(states.device, self._heads * tokens * len(position_keys))
        own = layer.attention.self
        query, key, value = own.query_proj(states), own.key_proj(states), own.value_proj(states)
        parts = []
        for start in range(0, batch, step):
            some = slice(start, start + step)
            bias = by_distance(query[some], position_keys, self._heads)
            bias = bias + by_distance(key[some], position_queries, self._heads).transpose(-1, -2)
            bias += padding[some, None, None, :]
            q, k, v = (part[some].unflatten(-1, (self._heads, -1)).transpose(1, 2) for part in (query, key, value))
            parts.append(scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self._scale))
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).transpose(1, 2).flatten(2)


class DistancePlaces:
    """Where distances between tokens stand among a DebertaV2Model's positions; may be asked by several threads."""

    def __init__(self, config: DebertaV2Config) -> None:
        self._buckets = int(getattr(config, "position_buckets", -1))
        farthest = int(getattr(config, "max_relative_positions", -1))
        self._farthest = farthest if farthest > 0 else int(config.max_position_embeddings)
        self._table = torch.empty(0, dtype=torch.long)

    def rising(self, tokens: int, device: torch.device) -> Tensor:
        """The places of -(tokens - 1) .. tokens - 1: (2 * tokens - 1,) int64 on the device."""
        table = self._table  # another thread may put a longer one, or one for another device, in its place
        longest = (len(table) + 1) // 2
        if tokens > longest or table.device != device:
            longest = 1 << (tokens - 1).bit_length()
            distances = torch.arange(1 - longest, longest)
            if self._buckets > 0:
                distances = make_log_bucket_position(distances, self._buckets, self._farthest).long()
            span = self._buckets if self._buckets > 0 else self._farthest
            table = self._table = (distances + span).clamp(0, 2 * span - 1).to(device)
        return table[longest - tokens : longest + tokens - 1]


def scores_at_a_time(device: torch.device, of_one: int) -> int:
    """How many sequences are best attended to at a time, where one has `of_one` products with distances."""
    return max(1, (_CPU_SCORES if device.type == "cpu" else _ACCELERATOR_SCORES) // of_one)


def by_distance(content: Tensor, positions: Tensor, heads: int) -> Tensor:
    """Products of each token with the position at its distance from every other.

    Shapes: content (rows, tokens, hidden); positions (2 * tokens - 1, hidden), one for each `other - token`, rising.
    Returns (rows, heads, tokens, tokens), a view whose rows overlap in memory: row i of the products starts
    tokens - 1 - i columns in.
    """
    rows, tokens, hidden = content.shape
    width = hidden // heads
    products = torch.bmm(
        content.reshape(rows * tokens, heads, width).transpose(0, 1),
        positions.view(-1, heads, width).permute(1, 2, 0),
    )  # (heads, rows * tokens, 2 * tokens - 1)
    columns = products.shape[-1]
    by_head, by_row = rows * tokens * columns, tokens * columns
    return products.as_strided((rows, heads, tokens, tokens), (by_row, by_head, columns - 1, 1), tokens - 1)
