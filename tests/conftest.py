"""Fixtures that tests of several packages share."""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model directory of the bundled architecture: random weights, hidden 32, 2 layers, 47 text positions.

    Its tokenizer spells: every latin letter, digit and punctuation mark is a token. While it is in use torch keeps
    to one thread: work this small only waits for a second one.
    """
    import torch  # here, so that tests without a model do not load it

    from streamer.engine.independent import IndependentConfig, IndependentLabelModel
    from streamer.engine.loading import save_independent

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tokenizer = _spelling_tokenizer()
    encoder = {
        "vocab_size": 128,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 48,
        "type_vocab_size": 2,
    }
    model = IndependentLabelModel(
        IndependentConfig(encoder=encoder, query_position=47, label_tokens=12, scorer_hidden=16)
    )
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "LayerNorm" not in name and weight.dim():
                weight.normal_(0.0, 0.15, generator=generator)
    directory = tmp_path_factory.mktemp("tiny-bundled")
    save_independent(model, directory, tokenizer=tokenizer, dtype=torch.float32)
    yield directory
    torch.set_num_threads(threads)


def _spelling_tokenizer() -> str:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    within = [f"##{sign}" for sign in string.ascii_lowercase + string.digits]
    signs = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    vocabulary = {token: i for i, token in enumerate([*special, *signs, *within])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    )
    tokenizer.add_special_tokens(special)
    text: str = tokenizer.to_str()
    return text
