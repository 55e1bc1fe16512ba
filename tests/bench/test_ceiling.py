"""Arithmetic of a token, counted by hand and by torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel, BertConfig

from streamer.bench.ceiling import encoder_shape, flops_per_token, matmul_flops_per_s
from streamer.bench.reference import _KINDS, EncoderShape

ENCODER = {
    "num_hidden_layers": 3,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 60,
}
SHAPE = EncoderShape(layers=3, hidden=32, heads=2, intermediate=48, vocabulary=60)


KINDS = ("bert", "modernbert", "deberta-v2")


def test_the_shape_is_read_from_either_kind_of_config() -> None:
    assert encoder_shape({"encoder": ENCODER}) == SHAPE
    for kind in KINDS:
        assert encoder_shape({"encoder_config": ENCODER | {"model_type": kind}}) == replace(SHAPE, kind=kind)
    assert encoder_shape({"encoder_config": ENCODER}) == replace(SHAPE, kind="deberta-v2"), "as gliclass reads it"
    assert encoder_shape({"encoder_config": ENCODER | {"model_type": "roberta"}}) is None
    assert encoder_shape({}) is None


def test_what_a_config_leaves_out_is_as_in_transformers() -> None:
    shape = encoder_shape({"encoder_config": {"model_type": "bert", "num_hidden_layers": 3}})
    assert shape is not None
    assert (shape.layers, shape.hidden, shape.intermediate) == (3, 768, BertConfig().intermediate_size)


@pytest.mark.parametrize("kind", KINDS)
def test_arithmetic_of_a_token_is_what_torch_counts_in_linear_layers(kind: str) -> None:
    """Of DeBERTa the linear layers of its relative positions are left out here: they are the same for every text."""
    config: dict[str, Any] = {**ENCODER, "pad_token_id": 0, **_KINDS[kind], "relative_attention": False}
    model = AutoModel.from_config(AutoConfig.for_model(kind, **config))  # type: ignore[no-untyped-call]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval()(input_ids=torch.ones(1, 7, dtype=torch.int64))
    counted = counter.get_flop_counts()["Global"]
    pooler = 2 * 32 * 32 if kind == "bert" else 0
    linear = sum(counted.get(product, 0) for product in (torch.ops.aten.addmm, torch.ops.aten.mm))
    assert flops_per_token(replace(SHAPE, kind=kind)) * 7 == linear - pooler


def test_the_ceiling_is_a_plausible_speed() -> None:
    assert 1e8 < matmul_flops_per_s(torch.device("cpu"), torch.float32) < 1e16
