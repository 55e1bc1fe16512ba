"""`streamer bench`: which sections are measured, with which model.

Enters: model settings, sections, and how much to measure. Leaves: a BenchResult, a picture of it. Must not know: how
the figures are measured (see `stages.py`, `latency.py`, `scaling.py` and `compare.py`), terminals.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console

from streamer.app import FAKE, build_classifier, model_directory
from streamer.bench.ceiling import encoder_shape, flops_per_token, matmul_flops_per_s
from streamer.bench.compare import Comparison, compare_engines
from streamer.bench.latency import LOADS, Latency, measure_latency
from streamer.bench.picture import bench_picture
from streamer.bench.reference import MINILM_L6, EncoderShape, gliclass_version
from streamer.bench.result import BenchResult
from streamer.bench.scaling import LABEL_COUNTS, TEXT_TOKENS, Scaling, measure_scaling
from streamer.bench.stages import StageTimes, measure_stages
from streamer.bench.texts import bench_labels
from streamer.engine.base import Classifier, ModelInfo
from streamer.errors import UsageError
from streamer.settings import ModelSettings
from streamer.terminal import progress_bar

STAGES, LATENCY, SCALING, COMPARE = "stages", "latency", "scaling", "compare"
SECTIONS = (STAGES, LATENCY, SCALING, COMPARE)
PICTURED = (LATENCY, SCALING)
NO_GLICLASS = "gliclass is not installed: pip install 'streamer[bench]'"
NOT_ASKED = "not asked for"


def parse_sections(flags: Sequence[str]) -> frozenset[str] | None:
    """Sections by name, several in one flag parted by commas; None without any. Raises UsageError for others."""
    names = frozenset(name.strip() for flag in flags for name in flag.split(","))
    for name in sorted(names - set(SECTIONS)):
        raise UsageError(f"--only '{name}': no such section; use one or more of {','.join(SECTIONS)}")
    return names or None


def require_picture(path: Path, sections: Collection[str] | None) -> None:
    """Raises UsageError where no picture could be written in the end."""
    if path.suffix != ".svg":
        raise UsageError(f"--picture {path}: an SVG is written; name a file that ends in .svg")
    if not path.parent.is_dir():
        raise UsageError(f"--picture {path}: there is no directory {path.parent}; make it, or name another")
    if sections is not None and not set(PICTURED) & set(sections):
        raise UsageError(f"--picture shows {' and '.join(PICTURED)}; name one of them in --only")


def run_bench(
    *,
    console: Console,
    model: ModelSettings,
    records: int,
    rounds: int,
    load_s: float,
    sections: Collection[str] | None,
    shape: EncoderShape = MINILM_L6,
) -> BenchResult:
    """Measure `sections`; None for all, the comparison with gliclass only where that is installed.

    Stages and the comparison take `rounds` rounds of `records` records, each size of the scaling `rounds` rounds, each
    load of the latency `load_s` seconds. The comparison runs on a checkpoint of `shape`, but a `model` of the bundled
    architecture sets the shape, and takes part. `console` shows progress when it is a terminal. Raises UsageError for a
    model that cannot be had, and for a comparison without gliclass that was asked for.
    """
    import torch

    from streamer.engine.independent import ARCHITECTURE
    from streamer.engine.loading import read_config

    version = gliclass_version()
    chosen = SECTIONS if sections is None else sections
    if sections is not None and COMPARE in sections and version is None:
        raise UsageError(f"--only {COMPARE}: {NO_GLICLASS}")
    classifier = build_classifier(model, max_tokens="auto")
    try:
        classifier.warm_up([bench_labels()])
        stages = _stages(console, classifier, records, rounds) if STAGES in chosen else None
        latency = _latency(console, classifier, model, load_s) if LATENCY in chosen else None
        scaling = _scaling(console, classifier, rounds) if SCALING in chosen else None
        info = classifier.describe()
    finally:
        classifier.close()
    config = {} if model.name == FAKE else read_config(model_directory(model))
    own_model = config.get("architecture_type") == ARCHITECTURE
    own_shape = encoder_shape(config)
    comparison = None
    if version is not None and COMPARE in chosen:
        compared_shape = own_shape if own_model and own_shape else shape
        comparison = _compare(console, version, compared_shape, model, own_model, records, rounds)
    why_not = None if comparison else NO_GLICLASS if version is None else NOT_ASKED
    share = None if own_shape is None or stages is None else _matmul_share(own_shape, info, stages)
    return BenchResult(
        model=info,
        threads=torch.get_num_threads(),
        records=records,
        rounds=rounds,
        stages=stages,
        matmul_share=share,
        latency=latency,
        scaling=scaling,
        comparison=comparison,
        no_comparison=why_not,
    )


def write_picture(path: Path, result: BenchResult) -> None:
    """Raises UsageError where the file cannot be written."""
    try:
        path.write_text(bench_picture(result), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--picture {path}: {error.strerror}") from None


def _stages(console: Console, classifier: Classifier, records: int, rounds: int) -> StageTimes:
    with progress_bar(console, "the road by stage", records * rounds) as advance:
        return measure_stages(classifier=classifier, records=records, rounds=rounds, advance=advance)


def _latency(console: Console, classifier: Classifier, model: ModelSettings, load_s: float) -> Latency:
    with progress_bar(console, "latency by load", len(LOADS) + 2) as advance:
        return measure_latency(classifier=classifier, model=model, loads=LOADS, load_s=load_s, advance=advance)


def _scaling(console: Console, classifier: Classifier, rounds: int) -> Scaling:
    with progress_bar(console, "labels and lengths", rounds * len((*LABEL_COUNTS, *TEXT_TOKENS))) as advance:
        return measure_scaling(classifier=classifier, rounds=rounds, advance=advance)


def _compare(
    console: Console,
    version: str,
    shape: EncoderShape,
    model: ModelSettings,
    own_model: bool,
    records: int,
    rounds: int,
) -> Comparison:
    sides = (2 if model.dtype == "float32" else 3) + own_model
    with progress_bar(console, "compared with gliclass", records * rounds * sides) as advance:
        return compare_engines(
            version=version,
            shape=shape,
            model=model,
            own_model=own_model,
            records=records,
            rounds=rounds,
            advance=advance,
        )


def _matmul_share(shape: EncoderShape, info: ModelInfo, stages: StageTimes) -> float:
    import torch

    from streamer.engine.devices import DTYPES

    ceiling = matmul_flops_per_s(torch.device(info.device), DTYPES[info.dtype])
    return stages.forward_tokens_per_s * flops_per_token(shape) / ceiling
