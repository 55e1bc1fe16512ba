"""What `load_tests.gpu` measures on a device, one function each.

Enters: a device and how much to measure. Leaves: figures by name. Nothing here judges them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from load_tests.gpu_shapes import DEBERTA_V3_BASE, MODERNBERT_BASE, Shape, random_model, random_rows
from streamer.app import ACCELERATOR_WINDOW_RECORDS, build_classifier, bundled_directory
from streamer.bench.ceiling import matmul_flops_per_s
from streamer.bench.compare import compare_engines
from streamer.bench.latency import measure_latency
from streamer.bench.reference import MINILM_L6, gliclass_version
from streamer.bench.texts import bench_labels, bench_texts
from streamer.engine.base import Classifier, Pending
from streamer.engine.devices import choose_dtype
from streamer.engine.flat import FlatKernels
from streamer.engine.flat_independent import FlatIndependent, LabelTable
from streamer.engine.flat_uniencoder import FlatUniEncoder
from streamer.engine.graphs import CudaCapture, GraphedIndependent
from streamer.engine.loading import load_independent
from streamer.engine.padding import masked, pad_ids
from streamer.engine.staging import Transfers, choose_transfers
from streamer.engine.varlen import VarlenKernels, choose_kernels
from streamer.records import Document
from streamer.settings import ModelSettings

Figures: TypeAlias = dict[str, Any]
Run: TypeAlias = Callable[[Sequence[Sequence[int]]], object]

BATCHES_UNDER_WAY: Final = 2
WINDOWS_UNDER_WAY: Final = 3
WAIT_S: Final = 60.0
LABELS, SHORTEST, LONGEST = 8, 64, 192  # of a row where weights are random
SHOWN_KERNELS: Final = 15


@dataclass(frozen=True, slots=True)
class Size:
    """How much to measure; `tiny` replaces the published shapes by small ones."""

    tiny: bool
    batch_tokens: int
    seconds: float
    records: int
    rounds: int


FULL: Final = Size(tiny=False, batch_tokens=16_384, seconds=5.0, records=512, rounds=3)
QUICK: Final = Size(tiny=True, batch_tokens=1_024, seconds=0.2, records=8, rounds=1)


def ratio_to_gliclass(device: torch.device, size: Size) -> Figures:
    """Our engine and gliclass's pipeline by turns, on the same MiniLM-shaped checkpoint, texts, labels and device."""
    version = gliclass_version()
    if version is None:
        raise RuntimeError("gliclass is not installed: pip install 'streamer[bench]'")
    found = compare_engines(
        version=version,
        shape=MINILM_L6,
        model=ModelSettings(device=str(device)),
        own_model=True,
        records=size.records,
        rounds=size.rounds,
        advance=lambda _: None,
    )
    return {
        "ratio": found.ratio,
        "ratio_own_model": found.ratio_own_model,
        "gliclass_records_per_s": found.gliclass_records_per_s,
        "streamer_records_per_s": found.streamer_records_per_s,
        "own_model_records_per_s": found.own_model_records_per_s,
    }


def minilm_engine(device: torch.device, size: Size) -> Figures:
    """The bundled model from texts to scores: windows of a backlog, tokenising included."""
    classifier = build_classifier(ModelSettings(device=str(device)), max_tokens="auto")
    try:
        classifier.warm_up([bench_labels()])
        documents = [Document(text, bench_labels()) for text in bench_texts(4_096, seed=1)[: size.records * 8]]
        _rate(classifier, documents, size.seconds / 5)
        return {"records_per_s": max(_rate(classifier, documents, size.seconds) for _ in range(size.rounds))}
    finally:
        classifier.close()


def _rate(classifier: Classifier, documents: Sequence[Document], seconds: float) -> float:
    """Records per second over about so many seconds, `WINDOWS_UNDER_WAY` windows at any time."""
    windows = [
        documents[i : i + ACCELERATOR_WINDOW_RECORDS] for i in range(0, len(documents), ACCELERATOR_WINDOW_RECORDS)
    ]
    under_way: deque[tuple[Pending, int]] = deque()
    done = turn = 0
    began = perf_counter()
    while under_way or perf_counter() - began < seconds:
        while len(under_way) < WINDOWS_UNDER_WAY and perf_counter() - began < seconds:
            window = windows[turn % len(windows)]
            under_way.append((classifier.submit(window), len(window)))
            turn += 1
        pending, count = under_way.popleft()
        if pending.wait(WAIT_S) is None:
            raise RuntimeError(f"a window took longer than {WAIT_S:.0f} s")
        done += count
    return done / (perf_counter() - began)


def latency_at_half_load(device: torch.device, size: Size) -> Figures:
    """The bundled model on the whole road but Kafka, records due at random at half of what it can label."""
    model = ModelSettings(device=str(device))
    classifier = build_classifier(model, max_tokens="auto")
    try:
        classifier.warm_up([bench_labels()])
        found = measure_latency(
            classifier=classifier, model=model, loads=(0.5,), load_s=size.seconds, advance=lambda _: None
        )
    finally:
        classifier.close()
    (half,) = found.loads
    return {
        "p50_ms": half.p50_ms,
        "p99_ms": half.p99_ms,
        "offered_records_per_s": half.offered_records_per_s,
        "capacity_records_per_s": found.capacity_records_per_s,
        "lone_record_engine_ms": found.lone.lone_record_ms,
        "lone_record_road_ms": found.lone.road_ms,
    }


def captured_passes(device: torch.device, size: Size) -> Figures:
    """One record with 24 labels through the bundled model, token ids to logits, with captured passes and without."""
    dtype = choose_dtype("auto", device)
    model = load_independent(bundled_directory()).to(device)
    model.encoder.to(dtype)
    width = model.encoder.config.hidden_size // model.encoder.config.num_attention_heads
    transfers = choose_transfers(device)
    with torch.inference_mode():
        flat = FlatIndependent(model, _kernels(device, dtype, width), transfers)
        table = LabelTable(*flat.label_inputs(24))
        rounds = 500 if device.type == "cuda" else 5
        figures: Figures = {"plain_ms": _lone_ms(flat, table, rounds)}
        if device.type == "cuda":
            graphed = GraphedIndependent(flat, transfers, CudaCapture(device), device)
            began = perf_counter()
            graphed.expect(24)
            figures |= {"capture_s": perf_counter() - began, "captured_ms": _lone_ms(graphed, table, rounds)}
    return figures


def _lone_ms(scorer: FlatIndependent | GraphedIndependent, table: LabelTable, rounds: int) -> dict[str, float]:
    """Median milliseconds by tokens of the text."""
    index = np.arange(24)
    medians = {}
    for tokens in (20, 50, 80, 200):
        times = []
        for _ in range(rounds):
            began = perf_counter()
            scorer.score([[7] * tokens], [24], index, table)
            times.append(perf_counter() - began)
        medians[str(tokens)] = median(times) * 1000
    return medians


def modernbert_mfu(device: torch.device, size: Size) -> Figures:
    """A ModernBERT-base shape on flat batches: its arithmetic against what large products reach here.

    With the small functions compiled, as the engine has them, and one by one.
    """
    shape = MODERNBERT_BASE.tiny() if size.tiny else MODERNBERT_BASE
    dtype = choose_dtype("auto", device)
    ceiling = matmul_flops_per_s(device, dtype)
    width = shape.hidden // shape.heads
    kinds = {"engine": _kernels(device, dtype, width)}
    if device.type == "cuda":
        kinds["not_compiled"] = _not_compiled()
    figures: Figures = {"matmul_flops_per_s": ceiling}
    for name, kernels in kinds.items():
        with torch.inference_mode():
            run = _flat(shape, kernels, device, dtype)
            figures[name] = _steady(run, shape, size, ceiling)
            if device.type == "cuda":
                figures[name]["kernels"] = _kernels_by_time(partial(run, _batches(shape, size)[0]))
        del run
    return figures


def _flat(shape: Shape, kernels: FlatKernels, device: torch.device, dtype: torch.dtype) -> Run:
    model = random_model(shape, device=device, dtype=dtype, seed=1)
    scorer = FlatUniEncoder(model, kernels, choose_transfers(device))
    return lambda rows: scorer.score(rows, LABELS)


def deberta(device: torch.device, size: Size) -> Figures:
    """A DeBERTa-v3-base shape on padded batches, as the engine runs it, and with the whole model compiled."""
    shape = DEBERTA_V3_BASE.tiny() if size.tiny else DEBERTA_V3_BASE
    dtype = choose_dtype("auto", device)
    ceiling = matmul_flops_per_s(device, dtype)
    transfers = choose_transfers(device)
    with torch.inference_mode():
        model = random_model(shape, device=device, dtype=dtype, seed=1)
        figures: Figures = {"engine": _steady(_padded(model, transfers), shape, size, ceiling)}
        if device.type == "cuda":
            figures["engine"]["kernels"] = _kernels_by_time(lambda: _padded(model, transfers)(_batches(shape, size)[0]))
            began = perf_counter()
            compiled = torch.compile(model, dynamic=True)
            figures["compiled"] = _steady(_padded(compiled, transfers), shape, size, ceiling)
            figures["compiled"]["first_batches_and_measure_s"] = perf_counter() - began
    return figures


def _padded(model: Callable[..., torch.Tensor], transfers: Transfers) -> Run:
    def run(rows: Sequence[Sequence[int]]) -> object:
        return transfers.run([pad_ids(rows, multiple=16)], lambda placed: model(*masked(placed[0]), LABELS))

    return run


def _steady(run: Run, shape: Shape, size: Size, ceiling: float) -> dict[str, Any]:
    """Batches one after the other from as many threads as the engine has, over about `size.seconds`."""
    batches = _batches(shape, size)
    for rows in batches:
        run(rows)
    tokens = wanted = done = 0

    def work(first: int) -> list[int]:
        turns: list[int] = []
        with torch.inference_mode():
            while perf_counter() - began < size.seconds:
                turns.append((first + BATCHES_UNDER_WAY * len(turns)) % len(batches))
                run(batches[turns[-1]])
        return turns

    began = perf_counter()
    with ThreadPoolExecutor(BATCHES_UNDER_WAY) as pool:
        turns = [turn for some in pool.map(work, range(BATCHES_UNDER_WAY)) for turn in some]
    seconds = perf_counter() - began
    for turn in turns:
        tokens += sum(map(len, batches[turn]))
        wanted += len(batches[turn]) * (LABELS + 1)
        done += len(batches[turn])
    flops_per_s = _flops(shape, tokens, wanted) / seconds
    return {
        "rows_per_s": done / seconds,
        "tokens_per_s": tokens / seconds,
        "ms_per_batch": seconds / len(turns) * 1000,
        "flops_per_s": flops_per_s,
        "mfu": flops_per_s / ceiling,
    }


def _flops(shape: Shape, tokens: int, wanted: int) -> float:
    """Multiplications and additions of linear layers that a model needs: of a flat model's last layer only what the
    wanted tokens need. Attention and the head are left out, so it is a little more than this."""
    square, wide = shape.hidden**2, shape.hidden * shape.intermediate
    gated = 3 if shape.kind == "modernbert" else 2
    whole = 4 * square + gated * wide
    if shape.kind != "modernbert":
        return 2.0 * tokens * shape.layers * whole
    return 2.0 * (tokens * ((shape.layers - 1) * whole + 3 * square) + wanted * (square + gated * wide))


def _batches(shape: Shape, size: Size) -> list[list[list[int]]]:
    return [
        random_rows(
            size.batch_tokens, labels=LABELS, shortest=SHORTEST, longest=LONGEST, vocabulary=shape.vocabulary, seed=seed
        )
        for seed in range(4)
    ]


def _kernels_by_time(run: Callable[[], object]) -> list[tuple[str, float, int]]:
    """The kernels of one batch that take longest: name, milliseconds, calls."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        run()
    rows = sorted(found.key_averages(), key=lambda row: -float(row.self_device_time_total))[:SHOWN_KERNELS]
    return [(str(row.key)[:120], round(float(row.self_device_time_total) / 1000, 4), int(row.count)) for row in rows]


def _kernels(device: torch.device, dtype: torch.dtype, width: int) -> FlatKernels:
    kernels = choose_kernels(device, dtype, width)
    if kernels is None:
        raise RuntimeError("this device has no kernels for flat batches; the log says why")
    return kernels


def _not_compiled() -> VarlenKernels:
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    return VarlenKernels(varlen_attn, with_log_sum=AuxRequest(lse=True), compiles=lambda: False)
