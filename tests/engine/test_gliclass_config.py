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
        ("scorer_type", "cross-attn"),
        ("scorer_type", "hopfield"),
        ("pooling_strategy", "max"),
        ("pooling_strategy", "last"),
        ("class_token_pooling", "max"),
        ("use_lstm", True),
        ("squeeze_layers", True),
        ("layer_wise", True),
        ("encoder_layer_id", 3),
        ("use_segment_embeddings", True),
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
        ({"model_type": "deberta-v2"}, "'deberta-v2'"),
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


def test_without_an_encoder_config_gliclass_means_deberta(stored: Config) -> None:
    assert "encoder_config.model_type 'deberta-v2'" in refusal(stored | {"encoder_config": None})


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
