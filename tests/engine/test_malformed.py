"""GLiClass checkpoints read whatever stands in a text: in bounded time, and to finite scores."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from streamer.engine.uniencoder import UniEncoderBackend
from streamer.facets import LabelSet
from streamer.records import Document
from tests.malformed import MARKERS, ODD_TEXTS


@pytest.mark.parametrize("encoder", ["bert", "modernbert"])
def test_odd_texts_are_scored(
    encoder: str,
    make_checkpoint: Callable[..., Path],
    open_backend: Callable[..., UniEncoderBackend],
    one_facet: Callable[..., LabelSet],
) -> None:
    backend = open_backend(make_checkpoint(encoder), max_row_tokens=128)
    labels = one_facet(["billing", "outage"])
    backend.prepare(labels)
    for name, text in {**ODD_TEXTS, **{marker: f"before {marker} after" for marker in MARKERS}}.items():
        began_s = time.perf_counter()
        (row,) = backend.rows([Document(text, labels)])
        assert time.perf_counter() - began_s < 5, name
        assert len(row.ids) <= 128, name
        assert np.isfinite(backend.forward([row])).all(), name
