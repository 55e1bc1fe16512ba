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

ROUNDS = 8
# side of the matrices, and products between two looks at the clock: a GPU needs both to be larger, for starting a
# product and waiting for it take as long as one of the smaller size
CPU_SIDE, CPU_PRODUCTS = 2048, 1
GPU_SIDE, GPU_PRODUCTS = 8192, 8

# matrices of hidden * hidden and of hidden * intermediate in a layer: ModernBERT gates its intermediate layer
_MATRICES = {"bert": (4, 2), "modernbert": (4, 3), "deberta-v2": (4, 2)}


def encoder_shape(config: Mapping[str, Any]) -> EncoderShape | None:
    """Of a model with a BERT, ModernBERT or DeBERTa encoder, ours or GLiClass's; None for any other."""
    from transformers import AutoConfig

    ours, theirs = config.get("encoder"), config.get("encoder_config")
    raw = {"model_type": "bert", **ours} if ours else {"model_type": "deberta-v2", **(theirs or {})}
    if not (ours or theirs) or raw["model_type"] not in _MATRICES:
        return None
    encoder = AutoConfig.for_model(**raw)  # what a config.json leaves out is as in transformers
    return EncoderShape(
        layers=encoder.num_hidden_layers,
        hidden=encoder.hidden_size,
        heads=encoder.num_attention_heads,
        intermediate=encoder.intermediate_size,
        vocabulary=encoder.vocab_size,
        kind=raw["model_type"],
    )


def flops_per_token(shape: EncoderShape) -> float:
    """Multiplications and additions of the encoder's linear layers, as the model is defined.

    Attention is left out: at these lengths it is two to four hundredths of them, for DeBERTa up to a tenth. So a share
    of the ceiling is a little higher than it says; it is lower for a checkpoint of which the engine needs not the whole
    last layer, by at most that layer.
    """
    square, wide = _MATRICES[shape.kind]
    return 2.0 * shape.layers * (square * shape.hidden**2 + wide * shape.hidden * shape.intermediate)


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """The best of a few large products in this number format, on all threads."""
    on_cpu = device.type == "cpu"
    side, products = (CPU_SIDE, CPU_PRODUCTS) if on_cpu else (GPU_SIDE, GPU_PRODUCTS)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(ROUNDS):
        began = perf_counter()
        for _ in range(products):
            product = left @ right
        float(product[0, 0])  # reading a number waits for the device
        seconds.append(perf_counter() - began)
    return 2.0 * side**3 * products / min(seconds)
