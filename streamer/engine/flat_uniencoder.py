"""GLiClass's uni-encoder over flat batches: what `model.py` defines, without padding.

Enters: token ids of rows. Leaves: logits. In the last layer only those tokens are worked on whose states are read:
a label's marker and the text's first token, where the checkpoint pools by first tokens.

Must not know: label sets, tokenizers, Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DebertaV2Model
from transformers.models.bert.modeling_bert import BertModel
from transformers.models.modernbert.modeling_modernbert import ModernBertModel

from streamer.engine.flat import FlatKernels, Wanted, flat_batch, flat_ids
from streamer.engine.flat_bert import FlatBert
from streamer.engine.flat_deberta import FlatDeberta
from streamer.engine.flat_modernbert import FlatModernBert
from streamer.engine.gliclass_config import UniEncoderConfig
from streamer.engine.model import UniEncoder
from streamer.engine.staging import IndexArray, Transfers

FLAT_ENCODERS: Final = (BertModel, ModernBertModel)
# DeBERTa's attention goes by runs of equal length, one after the other, which an accelerator would not like
CPU_FLAT_ENCODERS: Final = (*FLAT_ENCODERS, DebertaV2Model)

Head: TypeAlias = Callable[[Tensor, Sequence[Tensor]], Tensor]  # last states, arrays on the device -> logits


class FlatUniEncoder:
    """Inference of a UniEncoder. Takes the layers out of the model: their weights lie here from now on.

    For the encoders in `CPU_FLAT_ENCODERS`, and those in `FLAT_ENCODERS` on other devices.
    """

    def __init__(self, model: UniEncoder, kernels: FlatKernels, transfers: Transfers) -> None:
        self._model = model
        self._transfers = transfers
        encoder = model.encoder_model
        self._encoder: FlatBert | FlatModernBert | FlatDeberta
        if isinstance(encoder, BertModel):
            self._encoder = FlatBert(encoder, kernels)
            encoder.encoder.layer = nn.ModuleList()
        elif isinstance(encoder, DebertaV2Model):
            self._encoder = FlatDeberta(encoder)
            encoder.encoder.layer = nn.ModuleList()
        else:
            self._encoder = FlatModernBert(cast(ModernBertModel, encoder), kernels)
            encoder.layers = nn.ModuleList()

    def score(self, rows: Sequence[Sequence[int]], labels: int) -> NDArray[np.float32]:
        """Logits (rows, labels); those beyond a row's own labels are finite and without meaning."""
        config = self._model.config
        first_tokens = config.class_token_pooling == "first" and config.pooling_strategy == "first"  # noqa: S105
        return self._from_first_tokens(rows, labels) if first_tokens else self._from_all_tokens(rows, labels)

    def _from_first_tokens(self, rows: Sequence[Sequence[int]], labels: int) -> NDArray[np.float32]:
        ids, positions, starts = flat_ids(rows)
        index, counts = _read_tokens(ids, starts, self._model.config)
        texts = counts.cumsum() - counts  # (rows,): a row's text token comes first, its labels follow
        places = (texts[:, None] + np.arange(1, labels + 1)).clip(max=len(index) - 1)

        def head(states: Tensor, placed: Sequence[Tensor]) -> Tensor:
            of_text, of_labels = placed
            return self._model.compare(states[of_text], states[of_labels])

        return self._run(rows, ids, positions, index, counts, [texts, places], head)

    def _from_all_tokens(self, rows: Sequence[Sequence[int]], labels: int) -> NDArray[np.float32]:
        ids, positions, starts = flat_ids(rows)
        lengths = np.diff(starts, append=len(ids))
        real = np.arange(lengths.max()) < lengths[:, None]
        padded_ids = np.full(real.shape, -1)
        padded_ids[real] = ids
        # where each token of the padded batch lies in the flat one; padding reads any
        places = np.zeros(real.shape, np.int64)
        places[real] = np.arange(len(ids))

        def head(states: Tensor, placed: Sequence[Tensor]) -> Tensor:
            at, of_row = placed
            mask = of_row >= 0
            padded = states[at].masked_fill(~mask.unsqueeze(-1), 0.0)
            return self._model.head(padded, of_row.masked_fill(~mask, 0), mask, labels)

        return self._run(rows, ids, positions, np.arange(len(ids)), lengths, [places, padded_ids], head)

    def _run(
        self,
        rows: Sequence[Sequence[int]],
        ids: NDArray[np.int64],
        positions: NDArray[np.int64],
        index: NDArray[np.int64],
        counts: NDArray[np.int64],
        of_head: Sequence[IndexArray],
        head: Head,
    ) -> NDArray[np.float32]:
        """`head` of the last states of the tokens at `index`, `counts` of each row: (wanted, hidden), float32."""
        lengths = [len(row) for row in rows]
        whole = flat_batch(lengths, [0] * len(rows))
        asked = flat_batch(lengths, counts.tolist())
        segments = _segments(ids, positions, self._model.config)
        bounds = [one.numpy() for one in (whole.token_bounds, whole.query_bounds, asked.query_bounds)]

        def compute(placed: Sequence[Tensor]) -> Tensor:
            ids, positions, segments, index, wanted_positions, of_tokens, of_none, of_wanted, *rest = placed
            wanted = Wanted(index=index, positions=wanted_positions, batch=asked.with_bounds(of_tokens, of_wanted))
            states = self._encoder.wanted_states(
                self._model.embed(ids, segments), positions, whole.with_bounds(of_tokens, of_none), wanted
            )
            return head(states.float(), rest)

        arrays: list[IndexArray] = [ids, positions, segments, index, positions[index], *bounds, *of_head]
        return self._transfers.run(arrays, compute)


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
