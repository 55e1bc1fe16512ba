"""Tiny random GLiClass checkpoints, written by gliclass itself in its own format."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from streamer.engine.uniencoder import UniEncoderBackend, open_uniencoder
from streamer.engine.varlen import choose_kernels
from streamer.facets import Facet, InContextExample, Kind, Label, LabelSet

MakeCheckpoint: TypeAlias = Callable[..., Path]

MARKERS = ("<<LABEL>>", "<<SEP>>", "<<EXAMPLE>>")
POSITIONS = {"bert": 160, "modernbert": 320, "mmbert": 320, "deberta-v2": 64}
CORPUS = (
    "The invoice was wrong, and nobody answers the phone. Please call me back on Monday morning!",
    "My laptop does not start after the update; the screen stays black. hardware.laptop software.update",
    "Great service: fast delivery, friendly people, thank you. positive negative neutral mixed",
    "Classify the request of a customer: billing, outage, praise, a question about a bill or payment?",
    "Überweisung für die Straße, naïve café; 東京 and Привет. Labels:\n 12:30, 4.99 EUR",
)


@pytest.fixture
def one_facet() -> Callable[..., LabelSet]:
    """A label set of a single facet from names."""

    def make(
        labels: Sequence[str | Label],
        *,
        prompt: str | None = None,
        examples: Sequence[tuple[str, tuple[str, ...]]] = (),
    ) -> LabelSet:
        named = tuple(Label(label) if isinstance(label, str) else label for label in labels)
        facets = (Facet("topic", Kind.MULTI, named),)
        return LabelSet("tickets", facets, prompt, tuple(InContextExample(*example) for example in examples))

    return make


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """`make_checkpoint(encoder, **config)`: a directory in GLiClass's format, made once per config.

    `encoder` is a key of TOKENIZERS; "mmbert" is a ModernBERT encoder with the tokenizer of mmBERT.
    """
    made: dict[str, Path] = {}

    def make(encoder: str, **config: Any) -> Path:
        key = f"{encoder} {sorted(config.items())}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp(encoder)
            save_checkpoint(made[key], encoder, config)
        return made[key]

    return make


def save_checkpoint(directory: Path, encoder: str, config: dict[str, Any]) -> None:
    """Save model and tokenizer as gliclass does; weights are large enough that logits differ between labels."""
    from gliclass import GLiClassModel, GLiClassModelConfig
    from transformers import PreTrainedTokenizerFast

    ends: dict[str, Any] = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    backend = TOKENIZERS[encoder]()
    ends["mask_token"] = AddedToken("[MASK]", lstrip=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **ends)  # type: ignore[no-untyped-call]
    tokenizer.add_tokens(list(MARKERS), special_tokens=True)
    label, sep, example = (tokenizer.convert_tokens_to_ids(marker) for marker in MARKERS)
    options = {
        "encoder_config": encoder_config(encoder, vocabulary=len(tokenizer), padding=backend.token_to_id("[PAD]")),
        "encoder_model": "tiny",
        "vocab_size": len(tokenizer),
        "class_token_index": label,
        "text_token_index": sep,
        "example_token_index": example,
        **config,
    }
    torch.manual_seed(7)
    model = GLiClassModel(GLiClassModelConfig(**options))
    for name, weights in model.named_parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=1.0 if "embeddings" in name else 1.5 * weights.shape[-1] ** -0.5)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def encoder_config(encoder: str, *, vocabulary: int, padding: int | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_type": "modernbert" if encoder == "mmbert" else encoder,
        "vocab_size": vocabulary,
        "pad_token_id": padding,
        "max_position_embeddings": POSITIONS[encoder],
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    if encoder in ("modernbert", "mmbert"):  # one layer attends to everything, the other to 8 tokens on either side
        config |= {"global_attn_every_n_layers": 2, "local_attention": 16}
    if encoder == "deberta-v2":  # as DeBERTa-v3 has it; distances above 8 share buckets, those above 63 the last one
        config |= {"relative_attention": True, "position_buckets": 16, "max_relative_positions": -1}
        config |= {"pos_att_type": "p2c|c2p", "share_att_key": True, "norm_rel_ebd": "layer_norm"}
        config |= {"position_biased_input": False, "type_vocab_size": 0, "layer_norm_eps": 1e-7}
    return config


def wordpiece() -> Tokenizer:
    """BERT's kind: lower-cased words in pieces."""
    words = sorted({word for line in CORPUS for word in re.findall(r"[a-zA-Z]+", line.lower())})
    signs = sorted(
        {sign for line in CORPUS for sign in line.lower() if not sign.isspace()} | set(string.printable[:94])
    )
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = dict.fromkeys([*special, *signs, *(f"##{sign}" for sign in signs), *words])
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    return _with_ends(tokenizer)


def byte_level_bpe() -> Tokenizer:
    """ModernBERT's kind: bytes, runs of spaces as tokens of their own, and odd control tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "|||EMAIL|||", "[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken(" " * width, normalized=True) for width in (4, 3, 2)])
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True)])
    return _with_ends(tokenizer)


@cache  # training adds up in any order, so two runs may differ
def _trained_unigram() -> str:
    """DeBERTa-v3's and mDeBERTa-v3's kind: whatever is normalised to a piece is one, control tokens among them."""
    tokenizer = Tokenizer(models.Unigram())
    # NMT and NFKC are what the precompiled map of the published tokenizers does
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Strip(), normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="always")])
    tokenizer.decoder = decoders.Metaspace()
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    alphabet = list(string.printable[:94])
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token=special[-1], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["[MASK]"])
    return _with_ends(tokenizer).to_str()


def bpe_with_bytes() -> Tokenizer:
    """mmBERT's kind: characters and their pairs over the whole string, spaces as signs, bytes for what is unknown."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=[*special, *bytes_])
    tokenizer.train_from_iterator([line.replace(" ", " ▁") for line in CORPUS], trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in special]
    state["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_tokens([AddedToken("\n" * count, normalized=False) for count in (3, 2)])
    return _with_ends(tokenizer)


def _with_ends(tokenizer: Tokenizer) -> Tokenizer:
    ends: list[Any] = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "bert": wordpiece,
    "modernbert": byte_level_bpe,
    "mmbert": bpe_with_bytes,
    "deberta-v2": lambda: Tokenizer.from_str(_trained_unigram()),
}


class Reference:
    """gliclass itself on a checkpoint: what every row, id and logit is compared with."""

    def __init__(self, directory: Path, dtype: torch.dtype = torch.float32) -> None:
        from gliclass import GLiClassModel
        from gliclass.pipeline import UniEncoderZeroShotClassificationPipeline as Pipeline
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        model = GLiClassModel.from_pretrained(directory).to(dtype)
        self._pipeline = Pipeline(model, str(directory), max_length=100_000, device="cpu", progress_bar=False)

    def string(self, text: str, label_set: LabelSet) -> str:
        """The whole input as gliclass writes it."""
        examples = [{"text": example.text, "labels": list(example.labels)} for example in label_set.examples]
        labels = [label.wording for label in label_set.labels]
        return str(self._pipeline.prepare_input(text, labels, examples, label_set.prompt))

    def ids(self, text: str, label_set: LabelSet) -> list[int]:
        return list(self._pipeline.tokenizer(self.string(text, label_set))["input_ids"])

    def logits(self, texts: Sequence[str], label_sets: Sequence[LabelSet]) -> list[NDArray[np.float32]]:
        """One padded batch; an array (labels,) per text."""
        strings = [self.string(*pair) for pair in zip(texts, label_sets, strict=True)]
        inputs = self._pipeline.tokenizer(strings, padding="longest", return_tensors="pt")
        most = max(len(label_set.labels) for label_set in label_sets)
        with torch.no_grad():
            logits = self._pipeline.model(**inputs, max_num_classes=most).logits.numpy()
        return [row[: len(label_set.labels)] for row, label_set in zip(logits, label_sets, strict=True)]

    def scores(self, texts: Sequence[str], label_set: LabelSet, *, single: bool) -> list[dict[str, float]]:
        """What a user of gliclass's pipeline is given."""
        labels = [label.wording for label in label_set.labels]
        kind = "single-label" if single else "multi-label"
        found = self._pipeline(list(texts), labels, threshold=0.0, classification_type=kind)
        return [{one["label"]: one["score"] for one in row} for row in found]


@pytest.fixture(scope="session")
def reference() -> Callable[..., Reference]:
    """gliclass's own model and pipeline on a checkpoint, loaded once."""
    return cache(Reference)


@pytest.fixture(scope="session")
def open_backend() -> Callable[..., UniEncoderBackend]:
    """`open_backend(directory, facet_mode=..., dtype=..., choose_kernels=..., max_row_tokens=...)` on the CPU."""

    def open_(directory: Path, **changed: Any) -> UniEncoderBackend:
        usual: dict[str, Any] = {
            "facet_mode": "separate",
            "dtype": torch.float32,
            "choose_kernels": choose_kernels,
            "max_row_tokens": 10_000,
            "name": "tiny",
        }
        return open_uniencoder(directory, device=torch.device("cpu"), **usual | changed)

    return open_
