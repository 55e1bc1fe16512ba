"""Models that can be trained further, behind one port: texts in, a logit for each label of one label set out.

Enters: a model directory, a label set. Leaves: a `Tunable`, whose logits are those the engine gives, with gradients.
Both kinds of model that the engine serves are here; weights are float32, computed with in bfloat16 where the device
does so. Must not know: examples, losses, optimizers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from streamer.engine.devices import choose_dtype
from streamer.engine.independent import ARCHITECTURE, IndependentLabelModel
from streamer.engine.loading import load_independent, load_uniencoder, read_config, read_tokenizer
from streamer.engine.padding import pad
from streamer.engine.tokenise import RowTokeniser
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.records import Document

if TYPE_CHECKING:
    from streamer.engine.model import UniEncoder

# Token ids of one text: a sequence for each time that the model reads it.
TextRows: TypeAlias = tuple[Sequence[int], ...]

MAX_ROW_TOKENS: Final = 1024  # of a sequence that holds labels too, as the engine has it
_CHARACTERS_PER_TOKEN: Final = 16  # few tokens have more; see `engine/bundled.py`


class Tunable(Protocol):
    """A model in memory and the label set it is asked about."""

    @property
    def module(self) -> nn.Module:
        """The whole model, in float32."""

    @property
    def words(self) -> nn.Module:
        """The table of word vectors."""

    @property
    def encoder(self) -> nn.Module:
        """What was pre-trained on plain text, the table of word vectors included; the rest are heads."""

    def rows(self, texts: Sequence[str]) -> list[TextRows]:
        """Texts, each cut to the tokens it may have, as token ids."""

    def logits(self, rows: Sequence[TextRows]) -> Tensor:
        """(texts, labels) float32, labels in the order of `LabelSet.labels`."""


def open_tunable(directory: Path, label_set: LabelSet, *, device: torch.device, text_tokens: int) -> Tunable:
    """Load a model for training; texts are cut to `text_tokens` tokens.

    Raises UsageError for a directory that holds no such model, and for a label set that it cannot be asked.
    """
    if read_config(directory).get("architecture_type") == ARCHITECTURE:
        return IndependentTunable(directory, label_set, device=device, text_tokens=text_tokens)
    return UniEncoderTunable(directory, label_set, device=device, text_tokens=text_tokens)


class IndependentTunable:
    """The bundled kind: labels are encoded anew for every batch, with gradient."""

    def __init__(self, directory: Path, label_set: LabelSet, *, device: torch.device, text_tokens: int) -> None:
        if label_set.prompt or label_set.examples:
            raise UsageError(f"label set '{label_set.name}': the bundled model takes no prompt and no examples")
        self._device = device
        self._tokenizer = _plain(read_tokenizer(directory))
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a text is five characters, not its end
        self._model: IndependentLabelModel = load_independent(directory).to(device)
        self._most = min(text_tokens, self._model.config.text_tokens)
        wordings = [label.wording for label in label_set.labels]
        self._labels = tuple(part.to(device) for part in pad(self._ids(wordings, self._model.config.label_tokens)))

    @property
    def module(self) -> nn.Module:
        return self._model

    @property
    def words(self) -> nn.Module:
        return self._model.encoder.embeddings.word_embeddings

    @property
    def encoder(self) -> nn.Module:
        return self._model.encoder

    def rows(self, texts: Sequence[str]) -> list[TextRows]:
        return [(ids,) for ids in self._ids(texts, self._most)]

    def logits(self, rows: Sequence[TextRows]) -> Tensor:
        ids, mask = (part.to(self._device) for part in pad([one for (one,) in rows]))
        with _autocast(self._device):
            vectors = self._model.encode_labels(*self._labels)  # (labels, hidden)
            logits: Tensor = self._model(ids, mask, vectors.expand(len(rows), -1, -1))
        return logits.float()

    def _ids(self, texts: Sequence[str], most: int) -> list[list[int]]:
        """Ids between CLS and SEP, at most `most` of them."""
        encoded = self._tokenizer.encode_batch_fast([text[: _CHARACTERS_PER_TOKEN * most] for text in texts])
        return [one.ids if len(one.ids) <= most else one.ids[: most - 1] + one.ids[-1:] for one in encoded]


class UniEncoderTunable:
    """A GLiClass checkpoint: every facet is asked in a sequence of its own, as the engine does by default."""

    def __init__(self, directory: Path, label_set: LabelSet, *, device: torch.device, text_tokens: int) -> None:
        from streamer.engine.uniencoder import check_tokenizer  # and transformers with it

        self._device, self._text_tokens = device, text_tokens
        self._facet_labels = [len(facet.labels) for facet in label_set.facets]
        self._label_set = label_set
        model = load_uniencoder(directory, dtype=torch.float32)
        model.let_weights_change()
        tokenizer = read_tokenizer(directory)
        check_tokenizer(tokenizer, model)
        self._tokenizer = _plain(tokenizer)
        self._tokeniser = RowTokeniser(
            tokenizer=tokenizer,
            prompt_first=model.config.prompt_first,
            facet_mode="separate",
            window_tokens=min(model.config.window_tokens or MAX_ROW_TOKENS, MAX_ROW_TOKENS),
        )
        self._tokeniser.prepare(label_set)
        self._padding_id = int(model.config.encoder.pad_token_id or 0)
        self._model: UniEncoder = model.to(device)

    @property
    def module(self) -> nn.Module:
        return self._model

    @property
    def words(self) -> nn.Module:
        words: nn.Module = self._model.encoder_model.get_input_embeddings()
        return words

    @property
    def encoder(self) -> nn.Module:
        encoder: nn.Module = self._model.encoder_model
        return encoder

    def rows(self, texts: Sequence[str]) -> list[TextRows]:
        documents = [Document(text, self._label_set) for text in self._cut(texts)]
        rows = self._tokeniser.rows(documents)
        facets = len(self._facet_labels)
        return [tuple(row.ids for row in rows[first : first + facets]) for first in range(0, len(rows), facets)]

    def logits(self, rows: Sequence[TextRows]) -> Tensor:
        by_facet = []
        for facet, labels in enumerate(self._facet_labels):
            ids, mask = (part.to(self._device) for part in pad([one[facet] for one in rows]))
            with _autocast(self._device):
                by_facet.append(self._model(ids.masked_fill(~mask, self._padding_id), mask, labels)[:, :labels])
        return torch.cat(by_facet, dim=1).float()

    def _cut(self, texts: Sequence[str]) -> list[str]:
        most = self._text_tokens
        rough = [text[: _CHARACTERS_PER_TOKEN * most] for text in texts]
        encoded = self._tokenizer.encode_batch(rough, add_special_tokens=False)
        return [
            text if len(one.ids) <= most else text[: one.offsets[most - 1][1]]
            for text, one in zip(rough, encoded, strict=True)
        ]


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _autocast(device: torch.device) -> torch.autocast:
    dtype = choose_dtype("auto", device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)
