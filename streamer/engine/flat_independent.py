"""The bundled model over flat batches: what `independent.py` defines, without padding.

Enters: token ids of texts and labels, label vectors. Leaves: label vectors, logits. A text costs its own tokens and
one token a label, whatever shares its batch.

Must not know: label sets, tokenizers, Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from streamer.engine.flat import FlatBatch, flat_batch, flat_ids
from streamer.engine.flat_bert import FlatBert
from streamer.engine.independent import IndependentLabelModel


class FlatIndependent:
    """Inference of an IndependentLabelModel on the CPU. Takes the encoder's layers out of it: they lie here now."""

    def __init__(self, model: IndependentLabelModel) -> None:
        self._model = model
        self._encoder = FlatBert(model.encoder)
        model.encoder.encoder.layer = nn.ModuleList()

    def encode_labels(self, wordings: Sequence[Sequence[int]]) -> Tensor:
        """Token ids of each label -> vectors (labels, hidden), float32."""
        batch = flat_batch([len(ids) for ids in wordings], [0] * len(wordings))
        return _means(self._encoder.states(self._embed(wordings), batch), batch)

    def score(
        self, texts: Sequence[Sequence[int]], labels: Sequence[int], label_vectors: Tensor, queries: Tensor
    ) -> Tensor:
        """Logits (all labels,), float32: those of the first text, of the second, and so on.

        `texts` are token ids; `labels` how many are asked of each; label_vectors and queries (all labels, hidden).
        """
        batch = flat_batch([len(ids) for ids in texts], labels)
        states = self._encoder.states(torch.cat([self._embed(texts), queries]), batch)
        label_features = states[batch.tokens :].float() + label_vectors
        of_text = torch.arange(len(texts)).repeat_interleave(torch.tensor(labels))
        return self._model.compare(_means(states, batch), of_text, label_features)

    def _embed(self, rows: Sequence[Sequence[int]]) -> Tensor:
        ids, positions, _ = flat_ids(rows)
        return self._encoder.embed(torch.from_numpy(ids), torch.from_numpy(positions))


def _means(states: Tensor, batch: FlatBatch) -> Tensor:
    """Mean of each sequence's tokens: (tokens + queries, hidden) -> (sequences, hidden), float32."""
    return torch.cat([run.of_tokens(states).mean(1, dtype=torch.float32) for run in batch.runs])
