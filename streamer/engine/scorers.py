"""GLiClass's scorers: features of a text and of its labels in, one logit per label out.

Names are those of the weights under `model.scorer.` in a GLiClass checkpoint. All compute what gliclass 0.1.21
computes. Must not know: encoders, token ids, label sets.
"""

from __future__ import annotations

from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from streamer.engine.gliclass_config import UniEncoderConfig

# width of the `mlp` scorer: gliclass never passes its config's scorer_mlp_hidden_size on to this one
_MLP_WIDTH: Final = 256


class DotScorer(nn.Module):
    """scorer_type `simple`: text (batch, hidden) . labels (batch, labels, hidden) -> (batch, labels)."""

    def forward(self, text: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
        return torch.einsum("bh,blh->bl", text, labels)


class MlpScorer(nn.Module):
    """scorer_type `mlp`: three layers over text (batch, hidden) and label side by side -> (batch, labels)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = _three_layers(2 * hidden, _MLP_WIDTH, nn.ReLU)

    def forward(self, text: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
        pair = torch.cat([text.unsqueeze(1).expand_as(labels), labels], dim=-1)  # (batch, labels, 2 * hidden)
        return cast(Tensor, self.mlp(pair).squeeze(-1))


class CrossAttentionScorer(nn.Module):
    """scorer_type `cross-attn`: each label pools the text's tokens for itself.

    text (batch, tokens, hidden) with mask (batch, tokens) bool, True for a token of the text, None where all are;
    -> (batch, labels).
    """

    def __init__(self, hidden: int, *, heads: int, width: int) -> None:
        super().__init__()
        self._heads = heads
        self.q_norm, self.kv_norm, self.norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.q, self.k, self.v, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.score_mlp = _three_layers(2 * hidden, width, nn.GELU)

    def forward(self, text: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
        query = self._split(self.q(self.q_norm(labels)))
        key, value = self._split(self.k(self.kv_norm(text))), self._split(self.v(text))  # only keys see the norm
        in_text = None if mask is None else mask[:, None, None, :]
        pooled = scaled_dot_product_attention(query, key, value, attn_mask=in_text)
        context = self.norm(self.out(pooled.transpose(1, 2).flatten(2)))  # (batch, labels, hidden)
        return cast(Tensor, self.score_mlp(torch.cat([context, labels], dim=-1)).squeeze(-1))

    def _split(self, states: Tensor) -> Tensor:
        """(batch, positions, hidden) -> (batch, heads, positions, head_dim)."""
        return states.view(*states.shape[:2], self._heads, -1).transpose(1, 2)


def build_scorer(config: UniEncoderConfig) -> nn.Module:
    """The scorer a config asks for; called with text, labels and the mask of the text's tokens."""
    hidden = int(config.encoder.hidden_size)
    if config.scorer_type == "cross-attn":
        return CrossAttentionScorer(hidden, heads=config.scorer_num_heads, width=config.scorer_mlp_hidden_size)
    return MlpScorer(hidden) if config.scorer_type == "mlp" else DotScorer()


def _three_layers(inputs: int, width: int, activation: type[nn.Module]) -> nn.Sequential:
    """inputs -> width -> width / 2 -> 1."""
    return nn.Sequential(
        nn.Linear(inputs, width), activation(), nn.Linear(width, width // 2), activation(), nn.Linear(width // 2, 1)
    )
