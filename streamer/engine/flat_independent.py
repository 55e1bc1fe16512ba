"""The bundled model over flat batches: what `independent.py` defines, without padding.

Enters: token ids of texts and labels, label vectors. Leaves: label vectors, logits. A text costs its own tokens and
one token a label, whatever shares its batch.

Must not know: label sets, tokenizers, Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamer.engine.flat import FlatBatch, FlatKernels, flat_batch, flat_ids
from streamer.engine.flat_bert import FlatBert
from streamer.engine.flat_heads import FlatHeads
from streamer.engine.independent import IndependentLabelModel
from streamer.engine.staging import Transfers


@dataclass(frozen=True, slots=True)
class Asked:
    """Texts and how many labels are asked of each: token `ids` and their `positions` (tokens,), `of_text` (labels,)."""

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    of_text: NDArray[np.int64]
    batch: FlatBatch

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]], labels: Sequence[int]) -> Asked:
        ids, positions, _ = flat_ids(texts)
        batch = flat_batch([len(ids) for ids in texts], labels)
        return cls(ids, positions, np.arange(len(texts)).repeat(np.asarray(labels)), batch)

    def arrays(self) -> list[NDArray[np.int64] | NDArray[np.int32]]:
        """What goes to the device."""
        bounds = [self.batch.token_bounds.numpy(), self.batch.query_bounds.numpy()]
        return [self.ids, self.positions, self.of_text, *bounds]


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Labels on the device: vectors (labels, hidden) float32, queries (labels, hidden) in the model's dtype."""

    vectors: Tensor
    queries: Tensor

    @classmethod
    def empty(cls, device: torch.device) -> LabelTable:
        return cls(torch.empty(0, device=device), torch.empty(0, device=device))

    def with_labels(self, vectors: Tensor, queries: Tensor) -> LabelTable:
        """A table of these labels behind its own."""
        if not len(self.vectors):
            return LabelTable(vectors, queries)
        return LabelTable(torch.cat([self.vectors, vectors]), torch.cat([self.queries, queries]))

    def of_parts(self, parts: Sequence[tuple[int, int]]) -> LabelTable:
        """A table of some of its labels: parts are where they begin, and how many."""
        return LabelTable(*(torch.cat([one.narrow(0, *p) for p in parts]) for one in (self.vectors, self.queries)))


class FlatIndependent:
    """Inference of an IndependentLabelModel. Takes the encoder's layers out of it: they lie here now."""

    def __init__(self, model: IndependentLabelModel, kernels: FlatKernels, transfers: Transfers) -> None:
        self._model = model
        self._kernels = kernels
        self._transfers = transfers
        self._encoder = FlatBert(model.encoder, kernels)
        self._heads = FlatHeads(model, kernels, model.encoder.embeddings.word_embeddings.weight.dtype)
        model.encoder.encoder.layer = nn.ModuleList()

    @property
    def most_tokens(self) -> int:
        """Tokens a text may have."""
        return self._model.config.text_tokens

    def label_inputs(self, labels: int) -> tuple[Tensor, Tensor]:
        """Room for vectors and queries of so many labels, on the device: what `logits` takes."""
        vectors = torch.zeros(labels, int(self._model.config.encoder["hidden_size"]), device=self._model.bias.device)
        return vectors, self._model.queries(vectors.unsqueeze(0))[0]

    def expect(self, labels: int) -> None:
        """Nothing depends on how many labels there will be."""

    def encode_labels(self, wordings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Token ids of each label -> vectors (labels, hidden)."""
        asked = Asked.of(wordings, [0] * len(wordings))

        def compute(placed: Sequence[Tensor]) -> Tensor:
            ids, positions, _, *bounds = placed
            batch = asked.batch.with_bounds(*bounds)
            return self._kernels.means(self._encoder.states(self._encoder.embed(ids, positions), batch), batch)

        return self._transfers.run(asked.arrays(), compute)

    def score(
        self, texts: Sequence[Sequence[int]], labels: Sequence[int], index: NDArray[np.int64], table: LabelTable
    ) -> NDArray[np.float32]:
        """Logits (all labels,): those of the first text, of the second, and so on.

        `texts` are token ids; `labels` how many are asked of each; index (all labels,) is where they lie in the table.
        """
        asked = Asked.of(texts, labels)

        def compute(placed: Sequence[Tensor]) -> Tensor:
            at, *inputs = placed
            return self.logits(inputs, asked.batch, table.vectors[at], table.queries[at])

        return self._transfers.run([index, *asked.arrays()], compute)

    def logits(self, placed: Sequence[Tensor], batch: FlatBatch, vectors: Tensor, queries: Tensor) -> Tensor:
        """Logits (all labels,), on the device.

        `placed` are the arrays of an Asked on the device, `batch` is shaped as its own; vectors and queries
        (all labels, hidden). Nothing here waits for the device or depends on what the arrays hold.
        """
        ids, positions, of_text, *bounds = placed
        batch = batch.with_bounds(*bounds)
        states = self._encoder.states(torch.cat([self._encoder.embed(ids, positions), queries]), batch)
        label_features = states[batch.tokens :].float() + vectors
        return self._heads(self._kernels.means(states, batch), of_text, label_features)
