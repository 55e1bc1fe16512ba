"""The bundled model as a Backend: texts tokenised once, labels encoded once per label set.

Enters: a model directory, label sets, documents. Leaves: logits. All facets of a record are scored in one pass,
and records with different label sets share a batch: a label's logit depends on the text and that label alone.

Must not know: batching, threads, Kafka.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamer.engine.base import ModelInfo, Row
from streamer.engine.flat import ChooseKernels, FlatKernels
from streamer.engine.flat_independent import FlatIndependent, LabelTable
from streamer.engine.graphs import CudaCapture, GraphedIndependent
from streamer.engine.independent import IndependentLabelModel
from streamer.engine.loading import load_independent, read_tokenizer, weights_revision
from streamer.engine.padded_independent import PaddedIndependent
from streamer.engine.staging import Transfers, choose_transfers
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.records import Document

# Texts are cut by characters before they are tokenised, so that a huge one costs no more than a long one. Only
# text of fewer than one token in 16 characters (long runs of blanks or of unbroken characters) loses tokens by it.
CHARACTERS_PER_TOKEN = 16
# Label sets above this are scored in several rows, which bounds what one record takes of the device's memory.
LABELS_PER_ROW = 1024
WORDINGS_PER_BATCH = 64


class LabelScorer(Protocol):
    """An IndependentLabelModel as token ids in, logits out; see `FlatIndependent`."""

    def encode_labels(self, wordings: Sequence[Sequence[int]]) -> NDArray[np.float32]: ...

    def expect(self, labels: int) -> None:
        """Get ready for records of which so many labels are asked."""

    def score(
        self, texts: Sequence[Sequence[int]], labels: Sequence[int], index: NDArray[np.int64], table: LabelTable
    ) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Label sets in the table, by scoring key: the first label of each, and how many.

    It is replaced as a whole: a batch under way keeps the one it began with.
    """

    table: LabelTable
    places: Mapping[str, tuple[int, int]]

    def with_labels(self, key: str, vectors: Tensor, queries: Tensor) -> _Prepared:
        place = len(self.table.vectors), len(vectors)
        return _Prepared(self.table.with_labels(vectors, queries), {**self.places, key: place})

    def without(self, keys: Collection[str]) -> _Prepared:
        kept = {key: place for key, place in self.places.items() if key not in keys}
        counts = [count for _, count in kept.values()]
        firsts = list(accumulate(counts, initial=0))[:-1]
        if not kept:
            return _Prepared(LabelTable.empty(self.table.vectors.device), {})
        return _Prepared(
            self.table.of_parts(list(kept.values())), dict(zip(kept, zip(firsts, counts, strict=True), strict=True))
        )


class BundledBackend:
    """IndependentLabelModel with its tokenizer, the encoder in `dtype`.

    No batch is padded where `choose_kernels` has kernels for it; otherwise a batch is padded to its longest row.

    Label sets must be prepared before documents that carry them are turned into rows. Raises UsageError for a
    directory that does not hold such a model.
    """

    def __init__(
        self,
        *,
        directory: Path,
        name: str,
        device: torch.device,
        dtype: torch.dtype,
        choose_kernels: ChooseKernels,
    ) -> None:
        revision = weights_revision(directory)
        self._tokenizer = read_tokenizer(directory)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a user's text is five characters, not its end
        self._model = load_independent(directory).to(device)
        # the heads stay in float32: they are small, and their dot product is scaled up about tenfold
        self._model.encoder.to(dtype)
        self._device = device
        encoder = self._model.encoder.config
        kernels = choose_kernels(device, dtype, encoder.hidden_size // encoder.num_attention_heads)
        self._pads = kernels is None
        self._scorer = _scorer(self._model, kernels, choose_transfers(device), device)
        self._info = ModelInfo(
            name=name,
            revision=revision,
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            window_tokens=self._model.config.text_tokens,
        )
        self._prepared = _Prepared(LabelTable.empty(device), {})

    @property
    def pads(self) -> bool:
        """Whether a batch is padded to its longest row."""
        return self._pads

    def describe(self) -> ModelInfo:
        return self._info

    @torch.inference_mode()
    def prepare(self, label_set: LabelSet) -> None:
        if label_set.scoring_key in self._prepared.places:
            return
        _refuse_unservable(label_set)
        ids = [
            ids for ids, _ in self._tokenise([la.wording for la in label_set.labels], self._model.config.label_tokens)
        ]
        starts = range(0, len(ids), WORDINGS_PER_BATCH)
        vectors = np.concatenate(
            [self._scorer.encode_labels(ids[start : start + WORDINGS_PER_BATCH]) for start in starts]
        )
        on_device = torch.from_numpy(vectors).to(self._device)
        queries = self._model.queries(on_device.unsqueeze(0))[0]
        self._prepared = self._prepared.with_labels(label_set.scoring_key, on_device, queries)
        self._scorer.expect(min(len(ids), LABELS_PER_ROW))

    @torch.inference_mode()
    def forget(self, scoring_keys: Collection[str]) -> None:
        self._prepared = self._prepared.without(scoring_keys)

    def rows(self, documents: Sequence[Document]) -> list[Row]:
        tokenised = self._tokenise([document.text for document in documents], self._model.config.text_tokens)
        rows = []
        for index, (document, (ids, truncated)) in enumerate(zip(documents, tokenised, strict=True)):
            key = document.label_set.scoring_key
            _, count = self._prepared.places[key]
            for first in range(0, count, LABELS_PER_ROW):
                labels = min(LABELS_PER_ROW, count - first)
                rows.append(Row(index, first, labels, len(ids) + labels, len(ids), truncated, ids, key))
        return rows

    @property
    def label_tokens(self) -> int:
        """See `Embedder.label_tokens`."""
        return self._model.config.label_tokens

    def cuts(self, wordings: Sequence[str]) -> list[bool]:
        """See `Embedder.cuts`."""
        return [truncated for _, truncated in self._tokenise(wordings, self.label_tokens)]

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], *, most_tokens: int) -> NDArray[np.float32]:
        """See `Embedder.embed`. The vector of a text, as it enters the score, is made as that of a label is."""
        ids = [ids for ids, _ in self._tokenise(texts, min(most_tokens, self._model.config.text_tokens))]
        out = np.zeros((len(ids), int(self._model.config.encoder["hidden_size"])), dtype=np.float32)
        by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # little padding, where batches are padded
        for start in range(0, len(ids), WORDINGS_PER_BATCH):
            batch = by_length[start : start + WORDINGS_PER_BATCH]
            out[batch] = self._scorer.encode_labels([ids[i] for i in batch])
        lengths: NDArray[np.float32] = np.linalg.norm(out, axis=1, keepdims=True).clip(1e-9)
        return out / lengths

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
        """Each row is asked for its own labels; zeros fill up the answer."""
        prepared = self._prepared
        counts = np.array([row.labels for row in rows])
        first = np.array([prepared.places[row.group][0] + row.first_label for row in rows])
        before = counts.cumsum() - counts
        index = np.arange(counts.sum()) + (first - before).repeat(counts)  # of all labels in the table
        logits = self._scorer.score([row.ids for row in rows], counts.tolist(), index, prepared.table)
        out = np.zeros((len(rows), counts.max()), dtype=np.float32)
        out[np.arange(out.shape[1]) < counts[:, None]] = logits
        return out


def _scorer(
    model: IndependentLabelModel, kernels: FlatKernels | None, transfers: Transfers, device: torch.device
) -> LabelScorer:
    if kernels is None:
        return PaddedIndependent(model, transfers)
    flat = FlatIndependent(model, kernels, transfers)
    return GraphedIndependent(flat, transfers, CudaCapture(device), device) if device.type == "cuda" else flat


def _refuse_unservable(label_set: LabelSet) -> None:
    if not label_set.labels:
        raise UsageError(f"label set '{label_set.name}': no labels; name at least one")
    for what in ("prompt", "examples"):
        if getattr(label_set, what):
            raise UsageError(
                f"label set '{label_set.name}': the bundled model takes no {what}; say it in the labels' "
                "descriptions, or use a GLiClass checkpoint (model.name)"
            )
