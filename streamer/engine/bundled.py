"""The bundled model as a Backend: texts tokenised once, labels encoded once per label set.

Enters: a model directory, label sets, documents. Leaves: logits. All facets of a record are scored in one pass,
and records with different label sets share a batch: a label's logit depends on the text and that label alone.

Must not know: batching, threads, Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from streamer.engine.base import ModelInfo, Row
from streamer.engine.flat_independent import FlatIndependent
from streamer.engine.loading import load_independent, read_tokenizer, weights_revision
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.records import Document

# Texts are cut by characters before they are tokenised, so that a huge one costs no more than a long one. Only
# text of fewer than one token in 16 characters (long runs of blanks or of unbroken characters) loses tokens by it.
CHARACTERS_PER_TOKEN = 16
# Label sets above this are scored in several rows, which bounds what one record takes of the device's memory.
LABELS_PER_ROW = 1024
WORDINGS_PER_BATCH = 64


@dataclass(frozen=True, slots=True)
class _PreparedLabels:
    """A label set on the device: vectors (labels, hidden) float32, queries (labels, hidden) in the model's dtype."""

    vectors: Tensor
    queries: Tensor


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Rows of token ids -> ids (int64) and mask (bool, True for a token), both (rows, longest)."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
    return torch.from_numpy(ids), torch.from_numpy(mask)


class BundledBackend:
    """IndependentLabelModel with its tokenizer, the encoder in `dtype`.

    `flat` is how a CPU is served: no batch is padded. Otherwise a batch is padded to its longest row, on any device.

    Label sets must be prepared before documents that carry them are turned into rows. Raises UsageError for a
    directory that does not hold such a model.
    """

    def __init__(self, *, directory: Path, name: str, device: torch.device, dtype: torch.dtype, flat: bool) -> None:
        revision = weights_revision(directory)
        self._tokenizer = read_tokenizer(directory)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a user's text is five characters, not its end
        self._model = load_independent(directory).to(device)
        # the heads stay in float32: they are small, and their dot product is scaled up about tenfold
        cast(nn.Module, self._model.encoder).to(dtype)
        self._device = device
        self._flat = FlatIndependent(self._model) if flat else None
        self._info = ModelInfo(
            name=name,
            revision=revision,
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            window_tokens=self._model.config.text_tokens,
        )
        self._prepared: dict[str, _PreparedLabels] = {}  # by scoring key

    @property
    def pads(self) -> bool:
        """Whether a batch is padded to its longest row."""
        return self._flat is None

    def describe(self) -> ModelInfo:
        return self._info

    @torch.inference_mode()
    def prepare(self, label_set: LabelSet) -> None:
        if label_set.scoring_key in self._prepared:
            return
        _refuse_unservable(label_set)
        ids = [
            ids for ids, _ in self._tokenise([la.wording for la in label_set.labels], self._model.config.label_tokens)
        ]
        starts = range(0, len(ids), WORDINGS_PER_BATCH)
        vectors = torch.cat([self._encode_labels(ids[start : start + WORDINGS_PER_BATCH]) for start in starts])
        self._prepared[label_set.scoring_key] = _PreparedLabels(vectors, self._model.queries(vectors.unsqueeze(0))[0])

    def _encode_labels(self, wordings: list[list[int]]) -> Tensor:
        if self._flat is not None:
            return self._flat.encode_labels(wordings)
        ids, mask = pad(wordings)
        return self._model.encode_labels(ids.to(self._device), mask.to(self._device))

    def rows(self, documents: Sequence[Document]) -> list[Row]:
        tokenised = self._tokenise([document.text for document in documents], self._model.config.text_tokens)
        rows = []
        for index, (document, (ids, truncated)) in enumerate(zip(documents, tokenised, strict=True)):
            key = document.label_set.scoring_key
            count = len(self._prepared[key].vectors)
            for first in range(0, count, LABELS_PER_ROW):
                labels = min(LABELS_PER_ROW, count - first)
                rows.append(Row(index, first, labels, len(ids) + labels, len(ids), truncated, ids, key))
        return rows

    def _tokenise(self, texts: Sequence[str], most: int) -> list[tuple[list[int], bool]]:
        """Ids of each text between CLS and SEP, at most `most` of them, and whether anything was cut."""
        characters = CHARACTERS_PER_TOKEN * most
        out = []
        encoded = self._tokenizer.encode_batch_fast([text[:characters] for text in texts])
        for text, encoding in zip(texts, encoded, strict=True):
            ids: list[int] = encoding.ids
            truncated = len(text) > characters
            if len(ids) > most:
                ids, truncated = ids[: most - 1] + ids[-1:], True
            out.append((ids, truncated))
        return out

    @torch.inference_mode()
    def forward(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        return self._forward_padded(rows) if self._flat is None else self._forward_flat(self._flat, rows)

    def _forward_flat(self, model: FlatIndependent, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Each row at its own length and number of labels; zeros fill up the answer."""
        labels = np.array([row.labels for row in rows])
        lists = [(self._prepared[row.group], slice(row.first_label, row.first_label + row.labels)) for row in rows]
        vectors = torch.cat([one.vectors[span] for one, span in lists])
        queries = torch.cat([one.queries[span] for one, span in lists])
        logits = model.score([row.ids for row in rows], labels.tolist(), vectors, queries)
        out = np.zeros((len(rows), labels.max()), dtype=np.float32)
        out[np.arange(out.shape[1]) < labels[:, None]] = logits.numpy()
        return out

    def _forward_padded(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        ids, mask = pad([row.ids for row in rows])
        vectors, queries = self._labels_of(rows)
        logits = self._model.score(ids.to(self._device), mask.to(self._device), vectors, queries)
        out: NDArray[np.float32] = logits.cpu().numpy()
        return out

    def _labels_of(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Vectors and queries of each row's labels, both (rows, most labels, hidden); zeros fill up shorter lists.

        No mask marks the filling: queries never see each other, so it only makes columns that nobody reads.
        """
        places: dict[tuple[str, int], int] = {}
        which = [places.setdefault((row.group, row.first_label), len(places)) for row in rows]
        lists = [self._prepared[group] for group, _ in places]
        spans = [slice(first, first + LABELS_PER_ROW) for _, first in places]
        vectors = pad_sequence([one.vectors[span] for one, span in zip(lists, spans, strict=True)], batch_first=True)
        queries = pad_sequence([one.queries[span] for one, span in zip(lists, spans, strict=True)], batch_first=True)
        if len(places) == 1:
            return vectors.expand(len(rows), -1, -1), queries.expand(len(rows), -1, -1)
        index = torch.tensor(which, device=self._device)
        return vectors[index], queries[index]


def _refuse_unservable(label_set: LabelSet) -> None:
    if not label_set.labels:
        raise UsageError(f"label set '{label_set.name}': no labels; name at least one")
    for what in ("prompt", "examples"):
        if getattr(label_set, what):
            raise UsageError(
                f"label set '{label_set.name}': the bundled model takes no {what}; say it in the labels' "
                "descriptions, or use a GLiClass checkpoint (model.name)"
            )
