"""The bundled model: a zero-shot text classifier whose labels do not see each other.

Enters: token ids of texts, vectors of labels. Leaves: one logit per (text, label). Each label is encoded once,
alone, by the same encoder (`encode_labels`); a record is the text's tokens followed by one query token per
label, which attends to the text and to itself. A label's logit therefore depends on the text and that label
alone. In GLiClass's terms: a fused bi-encoder with a shared encoder and independent queries.

Must not know: label sets, tokenizers, Kafka.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from streamer.engine.attention import encode_with_queries
from streamer.engine.bert import Bert, bert_shape

ARCHITECTURE = "independent-labels"


@dataclass(frozen=True, slots=True)
class IndependentConfig:
    """Shape of the model, as stored in its config.json; `encoder` is the config of a BERT encoder.

    `query_position` is the one position all queries share; texts use positions below it.
    `label_tokens` bounds the tokens of one label's wording (CLS and SEP counted).
    """

    encoder: dict[str, Any]
    query_position: int
    label_tokens: int
    scorer_hidden: int

    @property
    def text_tokens(self) -> int:
        """Positions a text may use, CLS and SEP counted."""
        return self.query_position


def _residual_mlp(hidden: int) -> nn.Sequential:
    """hidden -> hidden, zero at the start, so that `x + mlp(x)` begins as the identity."""
    last = nn.Linear(hidden, hidden)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), last)


def _masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """(batch, tokens, hidden), (batch, tokens) bool -> (batch, hidden), in float32."""
    weights = mask.unsqueeze(-1).float()
    return (states.float() * weights).sum(1) / weights.sum(1).clamp_min(1.0)


class IndependentLabelModel(nn.Module):
    """BERT encoder, query input, two projectors and a scorer; see the module docstring."""

    def __init__(self, config: IndependentConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Bert(bert_shape(config.encoder))
        hidden = int(config.encoder["hidden_size"])
        self.query_input = _residual_mlp(hidden)
        self.text_projector = _residual_mlp(hidden)
        self.label_projector = _residual_mlp(hidden)
        # the pre-trained encoder's cosine is already meaningful: begin there, let the rest correct it
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.tensor(-3.0))
        self.scorer = nn.Sequential(
            nn.Linear(3 * hidden, config.scorer_hidden), nn.GELU(), nn.Linear(config.scorer_hidden, 1)
        )

    def encode_labels(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode label wordings alone: ids, mask (labels, tokens) -> vectors (labels, hidden), float32."""
        embedded = self.encoder.embeddings(input_ids=ids)
        return _masked_mean(encode_with_queries(self.encoder, embedded, ids.shape[1], mask), mask)

    def queries(self, label_vectors: Tensor) -> Tensor:
        """Input of the query tokens (batch, labels, hidden), in the encoder's dtype.

        It depends on the label vectors (batch, labels, hidden) alone, so it can be kept with them.
        """
        query = label_vectors + self.query_input(label_vectors)
        position = torch.full(query.shape[:2], self.config.query_position, device=query.device)
        dtype = self.encoder.embeddings.word_embeddings.weight.dtype
        return cast(Tensor, self.encoder.embeddings(inputs_embeds=query.to(dtype), position_ids=position))

    def forward(self, ids: Tensor, mask: Tensor, label_vectors: Tensor) -> Tensor:
        """Score labels against texts.

        Shapes: ids and mask (bool) (batch, tokens), tokens <= query_position; label_vectors
        (batch, labels, hidden) from `encode_labels`. Returns logits (batch, labels), float32.
        """
        return self.score(ids, mask, label_vectors, self.queries(label_vectors))

    def score(self, ids: Tensor, mask: Tensor, label_vectors: Tensor, queries: Tensor) -> Tensor:
        """As `forward`, with the `queries` of the label vectors at hand."""
        tokens = ids.shape[1]
        text = self.encoder.embeddings(input_ids=ids)
        states = encode_with_queries(self.encoder, torch.cat([text, queries], 1), tokens, mask)
        text_feature = _masked_mean(states[:, :tokens], mask)  # (batch, hidden)
        label_feature = states[:, tokens:].float() + label_vectors.float()  # (batch, labels, hidden)
        return self.compare(text_feature.unsqueeze(1), label_feature)

    def compare(self, text_features: Tensor, label_features: Tensor) -> Tensor:
        """Logits of labels by their features and the text's: (batch, 1, hidden), (batch, labels, hidden), both float32
        -> (batch, labels), float32."""
        return self._logits(self._text(text_features), self._label(label_features))

    def _text(self, features: Tensor) -> Tensor:
        return normalize(features + self.text_projector(features), dim=-1).float()

    def _label(self, features: Tensor) -> Tensor:
        return normalize(features + self.label_projector(features), dim=-1).float()

    def _logits(self, text: Tensor, label: Tensor) -> Tensor:
        """(..., hidden) each, of one shape but for what broadcasting fills in -> (...), float32."""
        product = text * label
        correction = self.scorer(torch.cat([text.expand_as(label), label, product], dim=-1)).squeeze(-1)
        return cast(Tensor, self.log_scale.exp() * product.sum(-1) + self.bias + correction.float())
