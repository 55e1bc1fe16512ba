"""Arithmetic of a token, counted by hand and by torch."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from streamer.bench.ceiling import encoder_shape, flops_per_token, matmul_flops_per_s
from streamer.bench.reference import EncoderShape

ENCODER = {
    "num_hidden_layers": 3,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 60,
}
SHAPE = EncoderShape(layers=3, hidden=32, heads=2, intermediate=48, vocabulary=60)


def test_the_shape_is_read_from_either_kind_of_config() -> None:
    assert encoder_shape({"encoder": ENCODER}) == SHAPE
    assert encoder_shape({"encoder_config": ENCODER | {"model_type": "bert"}}) == SHAPE
    assert encoder_shape({"encoder_config": ENCODER | {"model_type": "modernbert"}}) is None
    assert encoder_shape({}) is None


def test_arithmetic_of_a_token_is_what_torch_counts_in_linear_layers() -> None:
    config: dict[str, Any] = {**ENCODER}
    model = BertModel(BertConfig(**config), add_pooling_layer=False)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(input_ids=torch.ones(1, 7, dtype=torch.int64))
    linear = counter.get_flop_counts()["Global"][torch.ops.aten.addmm]
    assert flops_per_token(SHAPE) * 7 == linear


def test_the_ceiling_is_a_plausible_speed() -> None:
    assert 1e8 < matmul_flops_per_s(torch.device("cpu"), torch.float32) < 1e16
