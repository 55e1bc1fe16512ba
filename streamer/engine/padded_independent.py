"""The bundled model over padded batches, for devices without kernels for flat ones.

Enters: token ids of texts and labels, label vectors. Leaves: label vectors, logits; as `flat_independent.py`.

Must not know: label sets, tokenizers, Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from streamer.engine.flat_independent import LabelTable
from streamer.engine.independent import IndependentLabelModel
from streamer.engine.padding import filled, masked, pad_ids
from streamer.engine.staging import Transfers


class PaddedIndependent:
    """Inference of an IndependentLabelModel on any device, each batch padded to its longest row."""

    def __init__(self, model: IndependentLabelModel, transfers: Transfers) -> None:
        self._model = model
        self._transfers = transfers

    def encode_labels(self, wordings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Token ids of each label -> vectors (labels, hidden)."""
        return self._transfers.run([pad_ids(wordings)], lambda placed: self._model.encode_labels(*masked(placed[0])))

    def expect(self, labels: int) -> None:
        """Nothing depends on how many labels there will be."""

    def score(
        self, texts: Sequence[Sequence[int]], labels: Sequence[int], index: NDArray[np.int64], table: LabelTable
    ) -> NDArray[np.float32]:
        """Logits (all labels,), as `FlatIndependent.score`.

        No mask marks where lists of labels are filled up: queries never see each other, so it only makes columns that
        nobody reads.
        """
        places = filled(labels, index, fill=0)

        def compute(placed: Sequence[Tensor]) -> Tensor:
            rows, at = placed
            return self._model.score(*masked(rows), table.vectors[at], table.queries[at])

        logits = self._transfers.run([pad_ids(texts), places], compute)
        return logits[np.arange(places.shape[1]) < np.asarray(labels)[:, None]]
