"""GLiClass uni-encoders behind the engine's `Backend`: any checkpoint of the family, labels and text in one sequence.

Enters: documents. Leaves: rows of token ids, and logits for a batch of them.

Must not know: which documents share a batch and why, files, Kafka.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from streamer.engine.base import ModelInfo, Row
from streamer.engine.flat import ChooseKernels
from streamer.engine.flat_uniencoder import CPU_FLAT_ENCODERS, FLAT_ENCODERS, FlatUniEncoder
from streamer.engine.loading import load_uniencoder, read_tokenizer, weights_revision
from streamer.engine.model import UniEncoder
from streamer.engine.padding import pad_ids
from streamer.engine.staging import Transfers, choose_transfers
from streamer.engine.tokenise import LABEL, SEP, FacetMode, RowTokeniser
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.records import Document

# a padded batch on an accelerator: fewer shapes to choose kernels for, and rows of scores that start where whole
# vectors are read
TOKENS_MULTIPLE: Final = 16


class UniEncoderBackend:
    """A loaded GLiClass uni-encoder and its tokenizer; implements `engine.base.Backend`.

    The model runs on `device` in the dtype it was loaded in. A row holds at most `max_row_tokens`, or what the
    encoder has positions for where that is less. Where `choose_kernels` has kernels for it, and the encoder is not
    DeBERTa on an accelerator, no batch is padded, and the layers are taken out of `model`. Otherwise a batch is padded
    to its longest row. Raises UsageError where tokenizer and model do not belong together.
    """

    def __init__(
        self,
        *,
        model: UniEncoder,
        tokenizer: Tokenizer,
        facet_mode: FacetMode,
        device: torch.device,
        choose_kernels: ChooseKernels,
        max_row_tokens: int,
        name: str,
        revision: str,
    ) -> None:
        check_tokenizer(tokenizer, model)
        window_tokens = min(model.config.window_tokens or max_row_tokens, max_row_tokens)
        self._tokeniser = RowTokeniser(
            tokenizer=tokenizer,
            prompt_first=model.config.prompt_first,
            facet_mode=facet_mode,
            window_tokens=window_tokens,
        )
        dtype = model.dtype
        model = model.to(device)
        transfers = choose_transfers(device)
        self._scorer = _flat(model, choose_kernels, transfers, device) or _Padded(model, transfers, device)
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
        return isinstance(self._scorer, _Padded)

    def describe(self) -> ModelInfo:
        return self._info

    def prepare(self, label_set: LabelSet) -> None:
        """Tokenise the label set once; idempotent. Raises UsageError where it cannot be served."""
        self._tokeniser.prepare(label_set)

    def forget(self, scoring_keys: Collection[str]) -> None:
        """Let go of prepared label sets."""
        self._tokeniser.forget(scoring_keys)

    def rows(self, documents: Sequence[Document]) -> list[Row]:
        """One row per document and facet (facet_mode "separate"), or one per document ("joint")."""
        return self._tokeniser.rows(documents)

    @torch.inference_mode()
    def forward(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Score one device batch: logits (rows, most labels of any row), float32.

        A row's logits beyond its own labels are without meaning. One copy to the device, one back.
        """
        return self._scorer.score([row.ids for row in rows], max(row.labels for row in rows))


class _Padded:
    """A UniEncoder on batches padded to their longest row."""

    def __init__(self, model: UniEncoder, transfers: Transfers, device: torch.device) -> None:
        self._model = model
        self._transfers = transfers
        self._padding_id = int(model.config.encoder.pad_token_id or 0)
        self._multiple = 1 if device.type == "cpu" else TOKENS_MULTIPLE

    def score(self, rows: Sequence[Sequence[int]], labels: int) -> NDArray[np.float32]:
        """As `FlatUniEncoder.score`."""

        def compute(placed: Sequence[torch.Tensor]) -> torch.Tensor:
            (ids,) = placed  # -1 for padding
            real = ids >= 0
            logits: torch.Tensor = self._model(ids.masked_fill(~real, self._padding_id), real, labels)
            return logits

        return self._transfers.run([pad_ids(rows, multiple=self._multiple)], compute)


def _flat(
    model: UniEncoder, choose_kernels: ChooseKernels, transfers: Transfers, device: torch.device
) -> FlatUniEncoder | None:
    if not isinstance(model.encoder_model, CPU_FLAT_ENCODERS if device.type == "cpu" else FLAT_ENCODERS):
        return None
    encoder = model.config.encoder
    kernels = choose_kernels(device, model.dtype, encoder.hidden_size // encoder.num_attention_heads)
    return None if kernels is None else FlatUniEncoder(model, kernels, transfers)


def open_uniencoder(
    directory: Path,
    *,
    facet_mode: FacetMode,
    device: torch.device,
    dtype: torch.dtype,
    choose_kernels: ChooseKernels,
    max_row_tokens: int,
    name: str,
) -> UniEncoderBackend:
    """Load a GLiClass checkpoint from a directory; its revision is a digest of its weights. Raises UsageError."""
    return UniEncoderBackend(
        model=load_uniencoder(directory, dtype=dtype),
        tokenizer=read_tokenizer(directory),
        facet_mode=facet_mode,
        device=device,
        choose_kernels=choose_kernels,
        max_row_tokens=max_row_tokens,
        name=name,
        revision=weights_revision(directory),
    )


def check_tokenizer(tokenizer: Tokenizer, model: UniEncoder) -> None:
    """Raises UsageError where the two do not belong together."""
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
