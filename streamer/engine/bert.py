"""BERT in plain torch, under the names that checkpoints give its weights (those of transformers' BertModel).

Enters: the encoder part of a config.json; token ids or embedded words. Leaves: modules that `attention.py` and
`flat_bert.py` run layer by layer, for labels and texts share layers in ways a whole encoder knows nothing of. It is
here because importing transformers takes twice as long as everything else at the start of the bundled model.

Must not know: labels, tokenizers, files, Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from streamer.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape:
    """What of BERT's config decides the computation; what a config leaves out is as transformers has it."""

    vocab_size: int = 30_522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3_072
    hidden_act: str = "gelu"
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    position_embedding_type: str = "absolute"

    def __post_init__(self) -> None:
        for name, implemented in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
            if getattr(self, name) != implemented:
                raise UsageError(f"BERT encoder: {name} '{getattr(self, name)}' is not implemented; '{implemented}' is")


def bert_shape(config: Mapping[str, Any]) -> BertShape:
    """From a config.json, whose other keys are about training. Raises UsageError for what is not implemented."""
    return BertShape(**{key: config[key] for key in BertShape.__dataclass_fields__ if key in config})


class Bert(nn.Module):
    """Embeddings and layers; without dropout, and without a forward pass of its own."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.config = shape
        self.embeddings = BertEmbeddings(shape)
        self.encoder = BertLayers(shape)


class BertEmbeddings(nn.Module):
    """Words, or what stands in their place, with their positions; every token is of the first type."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.word_embeddings = _table(shape.vocab_size, shape.hidden_size)
        self.position_embeddings = _table(shape.max_position_embeddings, shape.hidden_size)
        self.token_type_embeddings = _table(shape.type_vocab_size, shape.hidden_size)
        self.LayerNorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def forward(
        self,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """`input_ids` (batch, tokens) or `inputs_embeds` (batch, tokens, hidden) -> (batch, tokens, hidden).

        `position_ids` (batch, tokens), None: 0, 1, 2 ...
        """
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            positions = self.position_embeddings.weight[: words.shape[1]]
        else:
            positions = self.position_embeddings(position_ids)
        return cast(Tensor, self.LayerNorm(words + self.token_type_embeddings.weight[0] + positions))


def _table(rows: int, hidden: int) -> nn.Embedding:
    """Zeros, since weights are loaded, never drawn: drawing them on the meta device imports torch's compiler."""
    return nn.Embedding(rows, hidden, _weight=torch.zeros(rows, hidden))


class BertLayers(nn.Module):
    """The layers, from first to last."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(shape) for _ in range(shape.num_hidden_layers))


class BertLayer(nn.Module):
    """Attention, then two wide projections; each ends with `BertOutput`."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.attention = BertAttention(shape)
        self.intermediate = BertIntermediate(shape)
        self.output = BertOutput(shape.intermediate_size, shape)


class BertAttention(nn.Module):
    """What goes into attention, and what comes after it."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.self = BertSelfAttention(shape)
        self.output = BertOutput(shape.hidden_size, shape)


class BertSelfAttention(nn.Module):
    """hidden -> query, key and value, each (..., hidden), by heads side by side."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.num_attention_heads = shape.num_attention_heads
        self.query, self.key, self.value = (nn.Linear(shape.hidden_size, shape.hidden_size) for _ in range(3))


class BertIntermediate(nn.Module):
    """hidden -> intermediate, through the exact GELU."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.dense = nn.Linear(shape.hidden_size, shape.intermediate_size)

    def forward(self, states: Tensor) -> Tensor:
        return gelu(self.dense(states))


class BertOutput(nn.Module):
    """inputs -> hidden, added to what they came from, and normed."""

    def __init__(self, inputs: int, shape: BertShape) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, shape.hidden_size)
        self.LayerNorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        return cast(Tensor, self.LayerNorm(self.dense(states) + residual))
