"""How much of what the hardware can multiply is put to use.

Enters: a model's config.json, a device. Leaves: arithmetic of one token, and the arithmetic a second that large matrix
products reach here. Must not know: engines, texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import torch

from streamer.bench.reference import EncoderShape

SIDE = 2048
ROUNDS = 8


def encoder_shape(config: Mapping[str, Any]) -> EncoderShape | None:
    """Of a model with a BERT encoder, ours or GLiClass's; None for any other."""
    encoder = config.get("encoder") or config.get("encoder_config") or {}
    if encoder.get("model_type", "bert") != "bert" or "hidden_size" not in encoder:
        return None
    return EncoderShape(
        layers=encoder["num_hidden_layers"],
        hidden=encoder["hidden_size"],
        heads=encoder["num_attention_heads"],
        intermediate=encoder["intermediate_size"],
        vocabulary=encoder["vocab_size"],
    )


def flops_per_token(shape: EncoderShape) -> float:
    """Multiplications and additions of the encoder's linear layers. Attention is left out: at these lengths it is a
    hundredth of them."""
    return 2.0 * shape.layers * (4 * shape.hidden**2 + 2 * shape.hidden * shape.intermediate)


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """The best of a few large products in this number format, on all threads."""
    left, right = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(ROUNDS):
        began = perf_counter()
        float((left @ right)[0, 0])  # reading a number waits for the device
        seconds.append(perf_counter() - began)
    return 2.0 * SIDE**3 / min(seconds)
