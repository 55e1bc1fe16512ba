"""GLiClass uni-encoders behind the engine's `Backend`: any checkpoint of the family, labels and text in one sequence.

Enters: documents. Leaves: rows of token ids, and logits for a batch of them.

Must not know: which documents share a batch and why, files, Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from streamer.engine.base import ModelInfo, Row
from streamer.engine.flat_uniencoder import FLAT_ENCODERS, FlatUniEncoder
from streamer.engine.loading import load_uniencoder, read_tokenizer, weights_revision
from streamer.engine.model import UniEncoder
from streamer.engine.tokenise import LABEL, SEP, FacetMode, RowTokeniser
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.records import Document


class UniEncoderBackend:
    """A loaded GLiClass uni-encoder and its tokenizer; implements `engine.base.Backend`.

    The model runs on `device` in the dtype it was loaded in. A row holds at most `max_row_tokens`, or what the
    encoder has positions for where that is less. `flat` is how a CPU is served, DeBERTa excepted: no batch is padded,
    and the layers are taken out of `model`. Otherwise a batch is padded to its longest row, on any device. Raises
    UsageError where tokenizer and model do not belong together.
    """

    def __init__(
        self,
        *,
        model: UniEncoder,
        tokenizer: Tokenizer,
        facet_mode: FacetMode,
        device: torch.device,
        flat: bool,
        max_row_tokens: int,
        name: str,
        revision: str,
    ) -> None:
        _check_tokenizer(tokenizer, model)
        window_tokens = min(model.config.window_tokens or max_row_tokens, max_row_tokens)
        self._tokeniser = RowTokeniser(
            tokenizer=tokenizer,
            prompt_first=model.config.prompt_first,
            facet_mode=facet_mode,
            window_tokens=window_tokens,
        )
        self._model = model.to(device)
        self._device = device
        dtype = model.dtype
        self._flat = FlatUniEncoder(model) if flat and isinstance(model.encoder_model, FLAT_ENCODERS) else None
        self._padding_id = int(model.config.encoder.pad_token_id or 0)
        self._info = ModelInfo(
            name=name,
            revision=revision,
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            window_tokens=window_tokens,
        )

    @property
    def pads(self) -> bool:
        """Whether a batch is padded to its longest row."""
        return self._flat is None

    def describe(self) -> ModelInfo:
        return self._info

    def prepare(self, label_set: LabelSet) -> None:
        """Tokenise the label set once; idempotent. Raises UsageError where it cannot be served."""
        self._tokeniser.prepare(label_set)

    def rows(self, documents: Sequence[Document]) -> list[Row]:
        """One row per document and facet (facet_mode "separate"), or one per document ("joint")."""
        return self._tokeniser.rows(documents)

    @torch.inference_mode()
    def forward(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Score one device batch: logits (rows, most labels of any row), float32.

        A row's logits beyond its own labels are without meaning. One copy to the device, one back.
        """
        labels = max(row.labels for row in rows)
        if self._flat is not None:
            logits = self._flat.score([row.ids for row in rows], labels)
        else:
            logits = self._model(*self._padded(rows), labels)
        return np.asarray(logits.cpu().numpy(), dtype=np.float32)

    def _padded(self, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows -> ids (rows, tokens) int64, mask (rows, tokens) bool, on the device."""
        lengths = np.fromiter((len(row.ids) for row in rows), np.int64, len(rows))
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, -1, np.int64)  # -1 stands for padding until the mask is made on the device
        ids[mask] = np.fromiter(chain.from_iterable(row.ids for row in rows), np.int64, int(lengths.sum()))
        on_device = torch.from_numpy(ids).to(self._device)
        real = on_device >= 0
        return on_device.masked_fill(~real, self._padding_id), real


def open_uniencoder(
    directory: Path,
    *,
    facet_mode: FacetMode,
    device: torch.device,
    dtype: torch.dtype,
    flat: bool,
    max_row_tokens: int,
    name: str,
) -> UniEncoderBackend:
    """Load a GLiClass checkpoint from a directory; its revision is a digest of its weights. Raises UsageError."""
    return UniEncoderBackend(
        model=load_uniencoder(directory, dtype=dtype),
        tokenizer=read_tokenizer(directory),
        facet_mode=facet_mode,
        device=device,
        flat=flat,
        max_row_tokens=max_row_tokens,
        name=name,
        revision=weights_revision(directory),
    )


def _check_tokenizer(tokenizer: Tokenizer, model: UniEncoder) -> None:
    config = model.config
    expected = {LABEL: config.class_token_index}
    if config.extract_text_features:
        expected[SEP] = config.text_token_index
    for marker, index in expected.items():
        found = tokenizer.token_to_id(marker)
        if found != index:
            raise UsageError(
                f"the tokenizer gives {marker} the id {found}, the model expects {index}; take both from one model"
            )
    highest = max(tokenizer.get_vocab().values())
    if highest >= config.encoder.vocab_size:
        raise UsageError(
            f"the tokenizer knows ids up to {highest}, the model only {config.encoder.vocab_size} tokens;"
            " take both from one model"
        )
