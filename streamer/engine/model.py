"""GLiClass's uni-encoder: labels and text in one sequence, one logit per label.

Enters: token ids with `<<LABEL>>` before each label and `<<SEP>>` after the last. Leaves: logits. The encoder reads
the whole sequence; a label's feature is taken from its own tokens, the text's feature is pooled, both go through a
projector, and a scorer compares them. Module names are those of the weights under `model.` in a GLiClass checkpoint.

The encoder runs in the dtype it is given; the head always runs in float32, since its rounding would go straight
into the logits while its cost is a few hundredths of the encoder's.

Must not know: label sets, tokenizers, files, Kafka.
"""

from __future__ import annotations

from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from transformers import AutoModel, DebertaV2Model
from transformers.activations import ACT2FN

from streamer.engine.deberta import DisentangledEncoder
from streamer.engine.gliclass_config import UniEncoderConfig
from streamer.engine.scorers import build_scorer

_EPSILON = 1e-8
_ENCODER_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "bert": {"attn_implementation": "sdpa", "add_pooling_layer": False},
    "modernbert": {"attn_implementation": "sdpa"},
    "deberta-v2": {},
}


class Projector(nn.Module):
    """hidden -> projector_size -> hidden."""

    def __init__(self, config: UniEncoderConfig) -> None:
        super().__init__()
        hidden = int(config.encoder.hidden_size)
        self.linear_1 = nn.Linear(hidden, config.projector_size)
        self.act = ACT2FN[config.projector_hidden_act]
        self.linear_2 = nn.Linear(config.projector_size, hidden)

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.linear_2(self.act(self.linear_1(features))))


class UniEncoder(nn.Module):
    """Encoder, label and text features, projectors and scorer; computes what gliclass 0.1.21 computes.

    One deliberate difference: gliclass's `avg` pooling also averages over the padding, so a text's scores depend on
    its batch. Here padding is left out, which equals gliclass at batch size 1.
    """

    def __init__(self, config: UniEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder_model = AutoModel.from_config(  # type: ignore[no-untyped-call]
            config.encoder, **_ENCODER_OPTIONS[config.encoder.model_type]
        )
        deberta = isinstance(self.encoder_model, DebertaV2Model)
        self._disentangled = DisentangledEncoder(self.encoder_model) if deberta else None
        if config.use_segment_embeddings:
            self.segment_embeddings = nn.Embedding(3, int(config.encoder.hidden_size))
        self.text_projector = Projector(config)
        self.classes_projector = Projector(config)
        self.scorer = build_scorer(config)
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def let_weights_change(self) -> None:
        """Make the model trainable: every weight takes a gradient, and nothing derived from weights is kept."""
        self._disentangled = None
        self.requires_grad_(True)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the encoder; the head is float32."""
        return cast(torch.dtype, self.encoder_model.dtype)

    def forward(self, ids: Tensor, mask: Tensor, labels: int) -> Tensor:
        """Score one padded batch.

        Shapes: ids (batch, tokens) int64; mask (batch, tokens) bool, True for a real token, padding on the right;
        `labels` the most labels of any row, given by the caller because counting them would wait for the device.
        Returns logits (batch, labels), float32; those beyond a row's own labels are finite and without meaning.
        """
        return self.head(self._encode(ids, mask).float(), ids, mask, labels)

    def head(self, states: Tensor, ids: Tensor, mask: Tensor, labels: int) -> Tensor:
        """As `forward`, with the encoder's last states (batch, tokens, hidden), float32, at hand."""
        text = self._text_feature(states, ids, mask)  # (batch, hidden), "pass": as states
        return self.compare(text, self._label_features(states, ids, mask, labels), self._text_mask(ids, mask) & mask)

    def compare(self, text: Tensor, label: Tensor, in_text: Tensor | None = None) -> Tensor:
        """Features of texts and of their labels (batch, labels, hidden) -> logits (batch, labels).

        Texts are (batch, hidden); or (batch, tokens, hidden) and `in_text` (batch, tokens) bool, where the scorer
        pools them.
        """
        text, label = self.text_projector(text), self.classes_projector(label)
        if not self.config.normalize_features:
            return cast(Tensor, self.scorer(text, label, in_text))
        text = text / (text.norm(dim=-1, keepdim=True) + _EPSILON)
        label = label / (label.norm(dim=-1, keepdim=True) + _EPSILON)
        return cast(Tensor, self.scorer(text, label, in_text) * self.logit_scale)

    def _encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(batch, tokens) -> hidden states (batch, tokens, hidden) in the encoder's dtype."""
        embedded = self.embed(ids, self._segments(ids))
        if self._disentangled is not None:
            return self._disentangled(self.encoder_model.embeddings.LayerNorm(embedded), mask)
        return cast(Tensor, self.encoder_model(inputs_embeds=embedded, attention_mask=mask.long()).last_hidden_state)

    def embed(self, ids: Tensor, segments: Tensor) -> Tensor:
        """Tokens of any shape and the segment of each -> what the encoder takes in, (..., hidden)."""
        words = self.encoder_model.get_input_embeddings()(ids)
        return cast(Tensor, words + self.segment_embeddings(segments) if self.config.use_segment_embeddings else words)

    def _segments(self, ids: Tensor) -> Tensor:
        """Segment of each token, as gliclass counts: 1 from `<<SEP>>` on, else 0.

        It means to give examples segment 2, but looks for the first token that is not their marker, and so gives it
        to every token of a row that has examples, in training too.
        """
        examples = (ids == self.config.example_token_index).any(dim=-1, keepdim=True)  # (batch, 1)
        return self._from_separator(ids).long().masked_fill(examples, 2)

    def _label_features(self, states: Tensor, ids: Tensor, mask: Tensor, labels: int) -> Tensor:
        """(batch, tokens, hidden) -> (batch, labels, hidden)."""
        is_label = (ids == self.config.class_token_index) & mask  # (batch, tokens)
        ordinal = is_label.cumsum(dim=-1)  # which label a token stands at or after, from 1
        wanted = torch.arange(1, labels + 1, device=ids.device).view(1, -1, 1)
        if self.config.class_token_pooling == "average":  # noqa: S105
            span = (ordinal.unsqueeze(1) == wanted) & mask.unsqueeze(1)  # (batch, labels, tokens)
            # unless text features are set apart, gliclass lets the last label's span run on through the text
            if self.config.extract_text_features:
                span = span & ~self._from_separator(ids).unsqueeze(1)
            if not self.config.embed_class_token:
                span = span & ~is_label.unsqueeze(1)
            weights = span.to(states.dtype)
            return weights @ states / weights.sum(dim=-1, keepdim=True).clamp(min=1)
        at_label = is_label.unsqueeze(1) & (ordinal.unsqueeze(1) == wanted)  # (batch, labels, tokens), one True a label
        position = at_label.to(torch.uint8).argmax(dim=-1)  # (batch, labels)
        if not self.config.embed_class_token:
            position = (position + 1).clamp(max=ids.shape[1] - 1)  # the token after the marker
        return states.gather(1, position.unsqueeze(-1).expand(-1, -1, states.shape[-1]))

    def _text_feature(self, states: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """(batch, tokens, hidden) -> (batch, hidden), or states as they are where the scorer pools them."""
        if self.config.pooling_strategy == "pass":
            return states
        text = self._text_mask(ids, mask)
        if self.config.pooling_strategy == "first":
            first = text.to(torch.uint8).argmax(dim=-1)  # (batch,)
            return states.gather(1, first.view(-1, 1, 1).expand(-1, 1, states.shape[-1])).squeeze(1)
        # gliclass divides by the length of the whole sequence even where it sums over the text alone
        weights = (text & mask).to(states.dtype).unsqueeze(-1)
        return (states * weights).sum(dim=1) / mask.sum(dim=-1, keepdim=True)

    def _text_mask(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(batch, tokens) bool: where gliclass takes the text's features from; padding is not taken out."""
        return self._from_separator(ids) if self.config.extract_text_features else torch.ones_like(mask)

    def _from_separator(self, ids: Tensor) -> Tensor:
        """(batch, tokens) -> bool of the same shape: True from the first `<<SEP>>` on, where the text begins."""
        return (ids == self.config.text_token_index).cumsum(dim=-1) > 0
