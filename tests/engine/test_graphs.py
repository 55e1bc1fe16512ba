"""Captured passes against what they capture, on a stand-in that runs the same kernels again on the same memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from streamer.engine.flat_independent import FlatIndependent, LabelTable
from streamer.engine.graphs import GraphedIndependent
from streamer.engine.loading import load_independent
from streamer.engine.staging import StagedTransfers
from tests.engine.slow_kernels import slow_varlen

CPU = torch.device("cpu")


class Again:
    """What CUDA's graphs do, without their speed: the same function on the same tensors, whatever they hold by then."""

    def __init__(self) -> None:
        self.captured = 0
        self.run = 0

    def __call__(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        answer = compute()
        self.captured += 1

        def again() -> Tensor:
            self.run += 1
            return answer.copy_(compute())

        return again


def make(directory: Path, capture: Callable[[Callable[[], Tensor]], Callable[[], Tensor]]) -> GraphedIndependent:
    transfers = StagedTransfers(CPU)
    flat = FlatIndependent(load_independent(directory), slow_varlen(), transfers)
    return GraphedIndependent(flat, transfers, capture, CPU)


@torch.inference_mode()
def table_of(directory: Path, labels: int) -> LabelTable:
    vectors = torch.randn(labels, 32, generator=torch.Generator().manual_seed(1))
    return LabelTable(vectors, load_independent(directory).queries(vectors.unsqueeze(0))[0])


def text(tokens: int, seed: int) -> list[int]:
    return [int(i) for i in torch.randint(5, 100, (tokens,), generator=torch.Generator().manual_seed(seed))]


@torch.inference_mode()
def test_a_record_alone_is_scored_by_a_captured_pass_and_exactly(tiny_bundled: Path) -> None:
    capture = Again()
    graphed = make(tiny_bundled, capture)
    plain = FlatIndependent(load_independent(tiny_bundled), slow_varlen(), StagedTransfers(CPU))
    table = table_of(tiny_bundled, 30)
    for labels in (7, 3):
        graphed.expect(labels)
    graphed.expect(7)
    assert capture.captured == 2, "47 text positions: passes of 32 tokens alone, once for each number of labels"
    for run, (tokens, labels, first) in enumerate([(31, 7, 0), (2, 7, 9), (17, 3, 20), (1, 3, 0), (31, 7, 4)], start=1):
        asked = ([text(tokens, run)], [labels], np.arange(first, first + labels), table)
        np.testing.assert_allclose(graphed.score(*asked), plain.score(*asked), atol=1e-5, rtol=0)
        assert capture.run == run


@torch.inference_mode()
@pytest.mark.parametrize(
    ("texts", "labels"), [([text(32, 1)], [7]), ([text(5, 1)], [4]), ([text(5, 1), text(3, 2)], [7, 7])]
)
def test_what_no_pass_was_captured_for_is_scored_as_ever(
    texts: list[list[int]], labels: list[int], tiny_bundled: Path
) -> None:
    capture = Again()
    graphed = make(tiny_bundled, capture)
    graphed.expect(7)
    plain = FlatIndependent(load_independent(tiny_bundled), slow_varlen(), StagedTransfers(CPU))
    asked = (texts, labels, np.arange(sum(labels)), table_of(tiny_bundled, 30))
    np.testing.assert_allclose(graphed.score(*asked), plain.score(*asked), atol=1e-6, rtol=0)
    assert capture.run == 0


@torch.inference_mode()
def test_a_device_that_cannot_capture_is_asked_once(tiny_bundled: Path) -> None:
    asked = []

    def refuse(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        asked.append(compute)
        raise RuntimeError("operation not permitted when stream is capturing\nCompile with ...")

    graphed = make(tiny_bundled, refuse)
    with capture_logs() as logs:
        graphed.expect(7)
        graphed.expect(8)
    assert len(asked) == 1
    assert [(line["log_level"], line["reason"]) for line in logs] == [
        ("warning", "operation not permitted when stream is capturing")
    ]
    logits = graphed.score([text(5, 1)], [7], np.arange(7), table_of(tiny_bundled, 7))
    assert np.isfinite(logits).all()


@torch.inference_mode()
def test_passes_are_bounded(tiny_bundled: Path) -> None:
    capture = Again()
    graphed = make(tiny_bundled, capture)
    for labels in range(1, 100):
        graphed.expect(labels)
    graphed.expect(100_000)
    assert capture.captured == 64
