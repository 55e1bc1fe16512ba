"""Whatever a checkpoint asks for that is not implemented is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from streamer.engine.gliclass_config import UniEncoderConfig, uniencoder_config
from streamer.errors import UsageError

Config: TypeAlias = dict[str, Any]


@pytest.fixture
def stored(make_checkpoint: Callable[..., Path]) -> Config:
    """A config.json as gliclass writes it."""
    config: Config = json.loads((make_checkpoint("bert", scorer_type="mlp") / "config.json").read_text())
    return config


def read(config: Config) -> UniEncoderConfig:
    return uniencoder_config(deepcopy(config), Path("model/config.json"))


def refusal(config: Config) -> str:
    with pytest.raises(UsageError) as error:
        read(config)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architecture_type", "bi-encoder"),
        ("architecture_type", "bi-encoder-fused"),
        ("architecture_type", "encoder-decoder"),
        ("architecture_type", "decoder-kv"),
        ("scorer_type", "weighted-dot"),
        ("scorer_type", "hopfield"),
        ("pooling_strategy", "max"),
        ("pooling_strategy", "last"),
        ("class_token_pooling", "max"),
        ("use_lstm", True),
        ("squeeze_layers", True),
        ("layer_wise", True),
        ("encoder_layer_id", 3),
        ("use_segment_embeddings", 1),
        ("pooling_strategy", "pass"),
        ("use_calibrator", True),
        ("multimodal", True),
        ("prompt_first", 1),
        ("projector_hidden_act", "swoosh"),
        ("hidden_size", 24),
        ("class_token_index", -1),
        ("vocab_size", "many"),
        ("a_key_of_the_future", "on"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(stored: Config, key: str, value: Any) -> None:
    message = refusal(stored | {key: value})
    assert message.startswith("model/config.json: ")
    assert key in message


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model_type": "t5"}, "'t5'"),
        ({"is_decoder": True}, "is_decoder"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_encoders_that_are_not_implemented_are_refused_by_name(
    stored: Config, changed: dict[str, Any], named: str
) -> None:
    assert named in refusal(stored | {"encoder_config": stored["encoder_config"] | changed})


def test_an_encoder_config_is_needed(stored: Config) -> None:
    assert "encoder_config is missing" in refusal(stored | {"encoder_config": None})


@pytest.fixture
def deberta(make_checkpoint: Callable[..., Path]) -> Config:
    """A config.json of a DeBERTa-v3 encoder."""
    config: Config = json.loads((make_checkpoint("deberta-v2", scorer_type="mlp") / "config.json").read_text())
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("relative_attention", False),
        ("pos_att_type", ["c2p"]),
        ("pos_att_type", None),
        ("share_att_key", False),
        ("position_biased_input", True),
        ("type_vocab_size", 2),
        ("conv_kernel_size", 3),
        ("norm_rel_ebd", "batch_norm"),
        ("embedding_size", 16),
        ("attention_head_size", 8),
    ],
)
def test_what_deberta_v3_does_not_have_is_refused_by_name(deberta: Config, key: str, value: Any) -> None:
    message = refusal(deberta | {"encoder_config": deberta["encoder_config"] | {key: value}})
    assert f"encoder_config.{key} {value!r} is not implemented" in message


def test_without_a_model_type_gliclass_means_deberta(deberta: Config) -> None:
    encoder = {key: value for key, value in deberta["encoder_config"].items() if key != "model_type"}
    config = read(deberta | {"encoder_config": encoder})
    assert config.encoder.model_type == "deberta-v2"
    assert config.window_tokens is None, "distances, no positions"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"pooling_strategy": "first"}, "pooling_strategy 'first' is not implemented with scorer_type 'cross-attn'"),
        ({"scorer_type": "mlp"}, "pooling_strategy 'pass' is not implemented with scorer_type 'mlp'"),
        ({"scorer_num_heads": 5}, "scorer_num_heads 5 does not divide hidden_size 32"),
        ({"scorer_num_heads": 0}, "scorer_num_heads 0 does not divide hidden_size 32"),
        ({"hidden_size": 24}, "scorer_type 'cross-attn' needs hidden_size (24) equal to the encoder's (32)"),
        ({"scorer_mlp_hidden_size": "wide"}, "scorer_mlp_hidden_size must be a whole number"),
    ],
)
def test_the_scorer_that_pools_for_itself_needs_what_gliclass_needs(
    stored: Config, changed: Config, named: str
) -> None:
    cross = stored | {"scorer_type": "cross-attn", "pooling_strategy": "pass"}
    assert read(cross).scorer_num_heads == 16
    assert named in refusal(cross | changed)


def test_segments_need_the_token_of_examples(stored: Config) -> None:
    with_segments = stored | {"use_segment_embeddings": True}
    assert read(with_segments).example_token_index == stored["example_token_index"]
    assert "example_token_index" in refusal({k: v for k, v in with_segments.items() if k != "example_token_index"})


@pytest.mark.parametrize("missing", ["class_token_index", "text_token_index"])
def test_token_ids_are_never_guessed(stored: Config, missing: str) -> None:
    assert missing in refusal({key: value for key, value in stored.items() if key != missing})


def test_an_unknown_key_that_is_off_changes_nothing(stored: Config) -> None:
    assert read(stored | {"a_key_of_the_future": False, "another": None}) == read(stored)


def test_what_is_left_out_has_the_value_gliclass_gives_it(stored: Config) -> None:
    needed = {"encoder_config", "class_token_index", "text_token_index"}
    config = read({key: value for key, value in stored.items() if key in needed})
    assert (config.scorer_type, config.pooling_strategy, config.class_token_pooling) == ("simple", "first", "first")
    assert (config.prompt_first, config.embed_class_token, config.extract_text_features) == (False, True, False)
    assert (config.projector_hidden_act, config.projector_size, config.window_tokens) == ("gelu", 32, 160)


def test_the_vocabulary_grows_with_the_added_tokens(stored: Config) -> None:
    before = stored["encoder_config"] | {"vocab_size": stored["vocab_size"] - 3}
    assert read(stored | {"encoder_config": before}).encoder.vocab_size == stored["vocab_size"]
