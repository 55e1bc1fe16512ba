"""BERT in plain torch beside transformers' own. Layers: see test_attention.py and test_independent.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from streamer.engine.bert import Bert, bert_shape
from streamer.errors import UsageError

CONFIG: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
}


def theirs(config: dict[str, Any]) -> BertModel:
    model = BertModel(BertConfig(**config), add_pooling_layer=False)
    model.train(False)
    return model


def test_weights_have_the_same_names_and_shapes() -> None:
    ours = Bert(bert_shape(CONFIG)).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in theirs(CONFIG).state_dict().items()
    }


def test_what_a_config_leaves_out_is_as_transformers_has_it() -> None:
    ours, default = bert_shape({}), BertConfig()
    names = [name for name in ours.__dataclass_fields__ if name != "position_embedding_type"]  # there is but one now
    assert {name: getattr(ours, name) for name in names} == {name: getattr(default, name) for name in names}


@torch.inference_mode()
def test_words_and_what_stands_in_their_place_are_embedded_alike() -> None:
    reference = theirs(CONFIG)
    ours = Bert(bert_shape(CONFIG))
    ours.load_state_dict(reference.state_dict())
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 50, (3, 7), generator=generator)
    positions = torch.randint(0, 16, (3, 7), generator=generator)
    vectors = torch.randn(3, 7, 32, generator=generator)
    for inputs in (
        {"input_ids": ids},
        {"input_ids": ids, "position_ids": positions},
        {"inputs_embeds": vectors},
        {"inputs_embeds": vectors, "position_ids": positions},
    ):
        torch.testing.assert_close(ours.embeddings(**inputs), reference.embeddings(**inputs), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(("key", "value"), [("hidden_act", "relu"), ("position_embedding_type", "relative_key")])
def test_what_is_not_implemented_is_refused(key: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"{key} '{value}'"):
        bert_shape(CONFIG | {key: value})
