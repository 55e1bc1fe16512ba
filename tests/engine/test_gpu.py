"""What only a CUDA device can tell: its kernels against their slow twins, its fast paths against the plain ones.

These tests need nothing but the engine, so that `make bench-gpu` can run them wherever torch is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from load_tests.gpu_shapes import DEBERTA_V3_BASE, MODERNBERT_BASE, Shape, random_model, random_rows
from streamer.app import bundled_directory
from streamer.bench.texts import bench_labels, bench_texts
from streamer.engine.base import Row
from streamer.engine.bundled import BundledBackend
from streamer.engine.devices import device_memory
from streamer.engine.flat import ChooseKernels, FlatBatch, FlatKernels, RunKernels, flat_batch
from streamer.engine.flat_uniencoder import FlatUniEncoder
from streamer.engine.staging import DirectTransfers, StagedTransfers
from streamer.engine.varlen import VarlenKernels, choose_kernels
from streamer.records import Document
from tests.engine.slow_kernels import slow_varlen

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NOISE = 0.02  # of a probability, by which numbers of 8 bits may move it
LENGTHS = ([9], [1], [300, 130, 64, 64, 2, 1], [40, 7, 300], [1, 1, 1])
QUERIES = ([3], [1], [0, 24, 24, 0, 1, 130], [0, 0, 5], [0, 0, 0])
HEADS = 12


def padded(device: torch.device, dtype: torch.dtype, head_dim: int) -> FlatKernels | None:
    return None


def there(batch: FlatBatch) -> FlatBatch:
    return batch.with_bounds(batch.token_bounds.to(CUDA), batch.query_bounds.to(CUDA))


def kernels_there(head_dim: int) -> FlatKernels:
    kernels = choose_kernels(CUDA, torch.bfloat16, head_dim)
    assert isinstance(kernels, VarlenKernels), "this device has no kernels for flat batches; the log says why"
    return kernels


@pytest.mark.parametrize("head_dim", [32, 64])
@pytest.mark.parametrize("reach", [None, 64])
@pytest.mark.parametrize(("lengths", "queries"), list(zip(LENGTHS, QUERIES, strict=True)))
@torch.inference_mode()
def test_attention_and_means_are_those_of_the_slow_twin(
    lengths: list[int], queries: list[int], reach: int | None, head_dim: int
) -> None:
    batch = flat_batch(lengths, queries)
    shape = (batch.tokens + batch.queries, 3 * HEADS * head_dim)
    qkv = torch.randn(shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    kernels = kernels_there(head_dim)
    got = kernels.attend(qkv.to(CUDA), there(batch), HEADS, reach=reach)
    torch.testing.assert_close(
        got.cpu().float(), slow_varlen().attend(qkv.float(), batch, HEADS, reach=reach), atol=0.03, rtol=0.02
    )
    means = kernels.means(qkv.to(CUDA), there(batch))
    torch.testing.assert_close(means.cpu(), slow_varlen().means(qkv, batch), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return [Document(text, bench_labels()) for text in bench_texts(300, seed=1)]


def bundled(device: torch.device, dtype: torch.dtype, choose: ChooseKernels) -> BundledBackend:
    backend = BundledBackend(
        directory=bundled_directory(), name="bundled", device=device, dtype=dtype, choose_kernels=choose
    )
    backend.prepare(bench_labels())
    return backend


@pytest.fixture(scope="module")
def backend() -> Iterator[BundledBackend]:
    yield bundled(CUDA, torch.bfloat16, choose_kernels)
    torch.cuda.empty_cache()


@pytest.fixture(scope="module")
def exact(documents: list[Document]) -> NDArray[np.float32]:
    """Probabilities in float32, computed by the CPU."""
    return scored(bundled(CPU, torch.float32, choose_kernels), documents, size=50)


def scored(backend: BundledBackend, documents: Sequence[Document], *, size: int) -> NDArray[np.float32]:
    rows = backend.rows(documents)
    return probabilities(np.concatenate([backend.forward(rows[i : i + size]) for i in range(0, len(rows), size)]))


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1.0 / (1.0 + np.exp(-logits)), dtype=np.float32)


def assert_noise(got: NDArray[np.float32], exact: NDArray[np.float32]) -> None:
    """Half a percent of the scores may lie beyond the rule, by little: that is what bfloat16 does on a CPU too."""
    off = np.abs(got - exact)
    assert float(np.quantile(off, 0.995)) <= NOISE
    assert float(off.max()) <= 5 * NOISE


@pytest.mark.parametrize("size", [300, 7])
def test_the_bundled_model_gives_the_scores_of_the_cpu(
    size: int, backend: BundledBackend, documents: list[Document], exact: NDArray[np.float32]
) -> None:
    assert not backend.pads
    assert_noise(scored(backend, documents, size=size), exact)


def test_padded_batches_give_the_same(documents: list[Document], exact: NDArray[np.float32]) -> None:
    slow = bundled(CUDA, torch.bfloat16, padded)
    assert slow.pads
    assert_noise(scored(slow, documents, size=300), exact)


def test_float32_is_padded_and_exact(documents: list[Document], exact: NDArray[np.float32]) -> None:
    backend = bundled(CUDA, torch.float32, choose_kernels)
    assert backend.pads
    np.testing.assert_allclose(scored(backend, documents, size=300), exact, atol=2e-3)


def test_captured_passes_give_what_whole_batches_give(
    backend: BundledBackend, documents: list[Document], exact: NDArray[np.float32]
) -> None:
    """Records alone go through captured passes; one after the other, so that each overwrites the last one's input."""
    alone = scored(backend, documents, size=1)
    assert_noise(alone, exact)
    together = scored(backend, documents, size=300)
    off = np.abs(alone - together)
    assert float(np.quantile(off, 0.995)) <= NOISE


def test_threads_side_by_side_get_their_own_answers(backend: BundledBackend, documents: list[Document]) -> None:
    rows = backend.rows(documents)
    batches = [rows[i : i + size] for size in (1, 3, 50) for i in range(0, len(rows), size)]
    expected = [backend.forward(batch) for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        got = list(pool.map(backend.forward, batches))
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_nothing_waits_for_the_device_but_the_answer(backend: BundledBackend, documents: list[Document]) -> None:
    rows = backend.rows(documents)
    batches: list[list[Row]] = [rows[:100], rows[:1]]
    for batch in batches:
        backend.forward(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches:
            backend.forward(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def rows_of(shape: Shape) -> list[list[int]]:
    return random_rows(4_000, labels=6, shortest=20, longest=300, vocabulary=shape.vocabulary, seed=3)


def plain(shape: Shape, rows: Sequence[Sequence[int]], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Logits of the padded path, one row at a time."""
    model = random_model(shape, device=device, dtype=dtype, seed=5)
    with torch.inference_mode():
        ids = [torch.tensor([row], device=device) for row in rows]
        return torch.cat([model(one, torch.ones_like(one, dtype=torch.bool), 6) for one in ids]).cpu()


def flat(shape: Shape, rows: Sequence[Sequence[int]]) -> Tensor:
    model = random_model(shape, device=CUDA, dtype=torch.bfloat16, seed=5)
    with torch.inference_mode():
        return torch.from_numpy(FlatUniEncoder(model, kernels_there(32), StagedTransfers(CUDA)).score(rows, 6))


def test_modernbert_is_as_close_to_the_cpu_as_the_padded_path_is() -> None:
    shape = MODERNBERT_BASE.tiny()
    rows = rows_of(shape)
    model = random_model(shape, device=CPU, dtype=torch.float32, seed=5)
    with torch.inference_mode():
        exact = torch.from_numpy(FlatUniEncoder(model, RunKernels(), DirectTransfers(CPU)).score(rows, 6))
    ours = (flat(shape, rows) - exact).abs().mean()
    theirs = (plain(shape, rows, CUDA, torch.bfloat16) - exact).abs().mean()
    assert float(ours) <= 1.5 * float(theirs) + 1e-3


def test_deberta_on_the_device_is_close_to_the_cpu() -> None:
    shape = DEBERTA_V3_BASE.tiny()
    rows = rows_of(shape)
    exact = plain(shape, rows, CPU, torch.float32)
    torch.testing.assert_close(plain(shape, rows, CUDA, torch.float32), exact, atol=0.02, rtol=0.01)
    assert float((plain(shape, rows, CUDA, torch.bfloat16) - exact).abs().mean()) < 0.1


def test_the_memory_of_the_device_is_told(backend: BundledBackend) -> None:
    held = device_memory(backend.describe().device)
    assert 0 < held["used"] <= held["reserved"] <= held["total"]
