"""GLiClass's uni-encoder over flat batches: what `model.py` defines, without padding.

Enters: token ids of rows. Leaves: logits. In the last layer only those tokens are worked on whose states are read:
a label's marker and the text's first token, where the checkpoint pools by first tokens.

Must not know: label sets, tokenizers, Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import BertModel
from transformers.models.modernbert.modeling_modernbert import ModernBertModel

from streamer.engine.flat import Wanted, flat_batch, flat_ids
from streamer.engine.flat_bert import FlatBert
from streamer.engine.flat_modernbert import FlatModernBert
from streamer.engine.gliclass_config import UniEncoderConfig
from streamer.engine.model import UniEncoder

FLAT_ENCODERS: Final = (BertModel, ModernBertModel)


class FlatUniEncoder:
    """Inference of a UniEncoder on the CPU. Takes the layers out of the model: their weights lie here from now on.

    For the encoders in `FLAT_ENCODERS`.
    """

    def __init__(self, model: UniEncoder) -> None:
        self._model = model
        encoder = model.encoder_model
        self._encoder: FlatBert | FlatModernBert
        if isinstance(encoder, BertModel):
            self._encoder = FlatBert(encoder)
            encoder.encoder.layer = nn.ModuleList()
        else:
            self._encoder = FlatModernBert(cast(ModernBertModel, encoder))
            encoder.layers = nn.ModuleList()

    def score(self, rows: Sequence[Sequence[int]], labels: int) -> Tensor:
        """Logits (rows, labels), float32; those beyond a row's own labels are finite and without meaning."""
        config = self._model.config
        first_tokens = config.class_token_pooling == "first" and config.pooling_strategy == "first"  # noqa: S105
        return self._from_first_tokens(rows, labels) if first_tokens else self._from_all_tokens(rows, labels)

    def _from_first_tokens(self, rows: Sequence[Sequence[int]], labels: int) -> Tensor:
        ids, positions, starts = flat_ids(rows)
        index, counts = _read_tokens(ids, starts, self._model.config)
        states = self._states(rows, ids, positions, index, counts)
        texts = counts.cumsum() - counts  # (rows,): a row's text token comes first, its labels follow
        places = (texts[:, None] + np.arange(1, labels + 1)).clip(max=len(index) - 1)
        return self._model.compare(states[torch.from_numpy(texts)], states[torch.from_numpy(places)])

    def _from_all_tokens(self, rows: Sequence[Sequence[int]], labels: int) -> Tensor:
        ids, positions, starts = flat_ids(rows)
        lengths = np.diff(starts, append=len(ids))
        states = self._states(rows, ids, positions, np.arange(len(ids)), lengths)
        mask = torch.from_numpy(np.arange(lengths.max()) < lengths[:, None])
        padded = states.new_zeros(*mask.shape, states.shape[-1])
        padded[mask] = states
        padded_ids = torch.zeros(mask.shape, dtype=torch.int64)
        padded_ids[mask] = torch.from_numpy(ids)
        return self._model.head(padded, padded_ids, mask, labels)

    def _states(
        self,
        rows: Sequence[Sequence[int]],
        ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        index: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> Tensor:
        """Last states of the tokens at `index`, `counts` of each row: (wanted, hidden), float32."""
        lengths = [len(row) for row in rows]
        wanted = Wanted(
            index=torch.from_numpy(index),
            positions=torch.from_numpy(positions[index]),
            batch=flat_batch(lengths, counts.tolist()),
        )
        batch = flat_batch(lengths, [0] * len(rows))
        segments = _segments(ids, positions, self._model.config)
        embedded = self._model.embed(torch.from_numpy(ids), torch.from_numpy(segments))
        return self._encoder.wanted_states(embedded, torch.from_numpy(positions), batch, wanted).float()


def _segments(ids: NDArray[np.int64], positions: NDArray[np.int64], config: UniEncoderConfig) -> NDArray[np.int64]:
    """Segment of each token, as `UniEncoder` has them: (tokens,) -> (tokens,)."""
    if not config.use_segment_embeddings:
        return np.zeros_like(ids)
    row = (positions == 0).cumsum() - 1
    separators = (ids == config.text_token_index).cumsum()
    before_row = (separators - (ids == config.text_token_index))[positions == 0]
    examples = np.bincount(row, weights=ids == config.example_token_index) > 0
    return np.where(examples[row], 2, separators > before_row[row]).astype(np.int64)


def _read_tokens(
    ids: NDArray[np.int64], starts: NDArray[np.int64], config: UniEncoderConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which tokens the head reads: of each row the text's first, then its labels'; and how many of each row."""
    labels = np.flatnonzero(ids == config.class_token_index)
    rows = starts.searchsorted(labels, side="right") - 1
    if not config.embed_class_token:
        labels = labels + 1  # the token after the marker; a row never ends in a marker
    texts = starts.copy()
    if config.extract_text_features:
        separators = np.flatnonzero(ids == config.text_token_index)[::-1]
        texts[starts.searchsorted(separators, side="right") - 1] = separators  # the first of a row is written last
    order = np.concatenate([np.arange(len(starts)), rows]).argsort(kind="stable")
    counts = np.bincount(rows, minlength=len(starts)) + 1
    return np.concatenate([texts, labels])[order], counts
