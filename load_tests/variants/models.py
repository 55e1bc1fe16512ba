"""Three ways for labels and a text to meet in one encoder, with the same heads on top.

Enters: token ids of label wordings, then of texts. Leaves: one logit for each text and label that is asked of it.

- `one_token`: the bundled model. A label is encoded alone, and stands beside the text as one token.
- `all_words`: a label stands beside the text with all its words, which see the text and each other.
- `full_attention`: labels in front of the text in one sequence, as in GLiClass; everything sees everything.

Must not know: how they are trained, what they are measured on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias, cast

import torch
from torch import Tensor, nn

from load_tests.variants.rows import Row, full_row, independent_row
from streamer.engine.bert import Bert, BertLayer
from streamer.engine.padding import pad, pad_ids
from streamer.tuning.train import start_model

Ids: TypeAlias = Sequence[int]
# Token ids of texts, and which of the labels at hand are asked of each -> logits (texts, most labels of one of them),
# float32; where a text is asked fewer, the rest of its row has no meaning. CLS and SEP enclose texts and labels.
Answer: TypeAlias = Callable[[Sequence[Ids], Sequence[Sequence[int]]], Tensor]

LABELS_AT_ONCE: Final = 48  # that are encoded together: little padding


class Variant(nn.Module, ABC):
    """A model that scores labels against texts."""

    encoder: Bert

    @abstractmethod
    def ask(self, labels: Sequence[Ids]) -> Answer:
        """Get labels ready for any number of texts; what does not depend on texts is computed here, once."""

    @abstractmethod
    def tokens(self, text: Ids, labels: Sequence[Ids]) -> int:
        """Tokens that go through the encoder for one text, once its labels are ready."""


class OneToken(Variant):
    """The bundled architecture as it is."""

    def __init__(self, start: Path) -> None:
        super().__init__()
        self._model = start_model(start)
        self.encoder = self._model.encoder

    def ask(self, labels: Sequence[Ids]) -> Answer:
        groups = [pad(labels[i : i + LABELS_AT_ONCE]) for i in range(0, len(labels), LABELS_AT_ONCE)]
        device = self._model.bias.device
        vectors = torch.cat([self._model.encode_labels(ids.to(device), mask.to(device)) for ids, mask in groups])

        def answer(texts: Sequence[Ids], asked: Sequence[Sequence[int]]) -> Tensor:
            ids, mask = pad(texts)
            chosen, _ = pad(asked)
            logits: Tensor = self._model(ids.to(device), mask.to(device), vectors[chosen.to(device)])
            return logits

        return answer

    def tokens(self, text: Ids, labels: Sequence[Ids]) -> int:
        return len(text) + len(labels)


class AllWords(Variant):
    """Labels stand beside the text word by word, each behind a marker of its own kind.

    `independent`: the words of a label see the text and each other, the text sees itself, and every label begins at
    the same position, the last that leaves it room. Otherwise everything sees everything, labels first.
    """

    def __init__(self, start: Path, *, independent: bool, label_tokens: int) -> None:
        super().__init__()
        self._model = start_model(start)
        self._model.query_input = nn.Sequential()  # labels have no query here
        self.encoder = self._model.encoder
        words = self.encoder.embeddings.word_embeddings.weight.detach()
        # fresh ones: copied from CLS, they keep a model from learning what they are
        self._markers = nn.Parameter(words.mean(0) + words.std(0) * torch.randn(2, words.shape[1]))
        self._independent = independent
        self._label_tokens = label_tokens

    def ask(self, labels: Sequence[Ids]) -> Answer:
        def answer(texts: Sequence[Ids], asked: Sequence[Sequence[int]]) -> Tensor:
            pairs = zip(texts, asked, strict=True)
            return self._logits([self._row(text, [labels[i] for i in chosen]) for text, chosen in pairs])

        return answer

    def tokens(self, text: Ids, labels: Sequence[Ids]) -> int:
        return len(self._row(text, labels).ids)

    def _row(self, text: Ids, labels: Sequence[Ids]) -> Row:
        config = self.encoder.config
        marker, positions = config.vocab_size, config.max_position_embeddings
        if self._independent:
            return independent_row(text, labels, marker=marker, label_position=positions - self._label_tokens)
        return full_row(text, labels, marker=marker, separator=marker + 1, positions=positions)

    def _logits(self, rows: Sequence[Row]) -> Tensor:
        device = self._markers.device
        ids, real = (one.to(device) for one in pad([row.ids for row in rows]))  # (texts, tokens)
        positions = pad([row.positions for row in rows])[0].to(device)
        parts = torch.from_numpy(pad_ids([row.parts for row in rows])).to(device)  # -1: of no part
        visible = real[:, None, :]
        if self._independent:
            key, query = parts[:, None, :], parts[:, :, None]
            visible = visible & ((key == 0) | (key == query))
        states = encode_visible(self.encoder, self._embed(ids[real], positions[real]), real, visible)
        means = part_means(states, parts, max(row.labels for row in rows) + 1)
        return self._model.compare(means[:, :1], means[:, 1:])

    def _embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """(tokens,) each -> (tokens, hidden). Markers are numbered behind the words of the vocabulary."""
        table = self.encoder.embeddings.word_embeddings
        words = table(ids.clamp(max=table.num_embeddings - 1))
        marks = self._markers[(ids - table.num_embeddings).clamp(min=0)]
        embedded = torch.where((ids >= table.num_embeddings).unsqueeze(-1), marks, words)
        return cast(Tensor, self.encoder.embeddings(inputs_embeds=embedded, position_ids=positions))


def encode_visible(encoder: Bert, embedded: Tensor, real: Tensor, visible: Tensor) -> Tensor:
    """Run all layers over rows of tokens that see some of each other.

    Shapes: `real` (texts, tokens) bool, True for a token; `embedded` (real tokens, hidden), those of the first text,
    of the second, and so on; `visible` (texts, tokens or 1, tokens) bool: whether a token sees another. Returns states
    (texts, tokens, hidden), 0 for padding. Only attention sees padding: examples have so unlike numbers of labels
    that elsewhere it would be more than half of the work.
    """
    texts, tokens = real.shape
    places = real.flatten().nonzero().squeeze(1)

    def spread(flat: Tensor) -> Tensor:
        return flat.new_zeros(texts * tokens, flat.shape[-1]).index_copy(0, places, flat).view(texts, tokens, -1)

    states = embedded
    for one in encoder.encoder.layer:
        layer = cast(BertLayer, one)
        attention = layer.attention.self
        query, key, value = (
            spread(part(states)).view(texts, tokens, attention.num_attention_heads, -1).transpose(1, 2)
            for part in (attention.query, attention.key, attention.value)
        )
        scores = (query @ key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5  # (texts, heads, tokens, tokens)
        weights = scores.masked_fill(~visible[:, None], -1e9).softmax(-1).to(value.dtype)
        mixed = (weights @ value).transpose(1, 2).reshape(texts * tokens, -1).index_select(0, places)
        attended = layer.attention.output(mixed, states)
        states = layer.output(layer.intermediate(attended), attended)
    return spread(states)


def part_means(states: Tensor, parts: Tensor, count: int) -> Tensor:
    """Mean state of each part: (texts, tokens, hidden), (texts, tokens) numbers -> (texts, count, hidden), float32."""
    numbers = torch.arange(count, device=parts.device)
    belongs = (parts[:, None, :] == numbers[None, :, None]).float()  # (texts, count, tokens)
    with torch.autocast(states.device.type, enabled=False):
        return belongs @ states.float() / belongs.sum(-1, keepdim=True).clamp_min(1.0)


def build_variant(name: str, start: Path, *, label_tokens: int) -> Variant:
    """A fresh model around a BERT encoder's weights; heads are drawn by torch's own generator."""
    if name == "one_token":
        return OneToken(start)
    return AllWords(start, independent=name == "all_words", label_tokens=label_tokens)


VARIANTS: Final = ("full_attention", "all_words", "one_token")
