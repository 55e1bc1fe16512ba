"""Models of published shapes with random weights, and rows of token ids for them: nothing is downloaded.

Enters: a shape, a device. Leaves: models of our own classes. Speed does not depend on weights, and that two ways of
computing agree can be seen with any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

import torch
from torch import Tensor, nn

from streamer.engine.gliclass_config import uniencoder_config
from streamer.engine.model import UniEncoder

LABEL, SEPARATOR, FIRST_WORD = 5, 6, 10


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a uni-encoder with GLiClass's head."""

    kind: str
    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    options: tuple[tuple[str, Any], ...] = ()

    def tiny(self) -> Shape:
        """The same kind, for trying out."""
        return replace(self, layers=4, hidden=64, heads=2, intermediate=96, vocabulary=300)


MODERNBERT_BASE: Final = Shape("modernbert", 22, 768, 12, 1152, 50_368)
DEBERTA_V3_BASE: Final = Shape(
    "deberta-v2",
    12,
    768,
    12,
    3072,
    128_100,
    (
        ("relative_attention", True),
        ("position_buckets", 256),
        ("pos_att_type", "p2c|c2p"),
        ("share_att_key", True),
        ("norm_rel_ebd", "layer_norm"),
        ("position_biased_input", False),
        ("type_vocab_size", 0),
        ("layer_norm_eps", 1e-7),
    ),
)


def random_model(shape: Shape, *, device: torch.device, dtype: torch.dtype, seed: int) -> UniEncoder:
    """In evaluation mode; the encoder in `dtype`, the head in float32, the same weights on any device."""
    encoder = {
        "model_type": shape.kind,
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        **dict(shape.options),
    }
    config = {
        "encoder_config": encoder,
        "hidden_size": shape.hidden,
        "vocab_size": shape.vocabulary,
        "class_token_index": LABEL,
        "text_token_index": SEPARATOR,
        "normalize_features": True,
        "prompt_first": True,
    }
    model = UniEncoder(uniencoder_config(config, Path("random weights")))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        weight.data = _drawn(name, weight.data, generator)
        if name.startswith("encoder_model."):
            weight.data = weight.data.to(dtype)
    model.logit_scale.data.fill_(10.0)
    return model.to(device).requires_grad_(False).eval()


def _drawn(name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
    if weight.dim() < 2:
        return torch.zeros_like(weight) if name.endswith("bias") else torch.ones_like(weight)
    spread = 1.0 if "embeddings" in name else weight.shape[-1] ** -0.5
    return nn.init.normal_(torch.empty_like(weight), std=spread, generator=generator)


def random_rows(
    tokens: int, *, labels: int, shortest: int, longest: int, vocabulary: int, seed: int
) -> list[list[int]]:
    """Rows of `labels` labels and a text, as many as `tokens` hold, longest first as in the engine's batches."""
    chance = Random(seed)
    rows: list[list[int]] = []
    while (room := tokens - sum(map(len, rows))) >= longest:
        prompt = [1, *(token for _ in range(labels) for token in (LABEL, _word(chance, vocabulary))), SEPARATOR]
        length = chance.randint(max(shortest, len(prompt) + 1), min(longest, room))
        rows.append([*prompt, *(_word(chance, vocabulary) for _ in range(length - len(prompt)))])
    return sorted(rows, key=len, reverse=True)


def _word(chance: Random, vocabulary: int) -> int:
    return chance.randrange(FIRST_WORD, vocabulary)
