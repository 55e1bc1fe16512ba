"""`streamer bench`: measure, show, and tell in figures.

Enters: model settings and how much to measure. Leaves: a BenchResult, and a table of it. Must not know: how the
figures are measured (see `stages.py` and `compare.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from streamer import __version__
from streamer.app import FAKE, build_classifier, model_directory
from streamer.bench.ceiling import encoder_shape, flops_per_token, matmul_flops_per_s
from streamer.bench.compare import Comparison, compare_engines
from streamer.bench.reference import MINILM_L6, EncoderShape, gliclass_version
from streamer.bench.stages import StageTimes, measure_stages
from streamer.bench.texts import bench_labels
from streamer.engine.base import ModelInfo
from streamer.errors import UsageError
from streamer.settings import ModelSettings
from streamer.terminal import progress_bar

NO_GLICLASS = "gliclass is not installed: pip install 'streamer[bench]'"
NOT_ASKED = "not asked for"
BAR_WIDTH = 24
DIGITS = 4


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What was measured, with what. `threads` are torch's; without a comparison `no_comparison` says why.

    `matmul_share` is the arithmetic of the forward stage over what large matrix products reach on this device; None
    where the encoder is not BERT.
    """

    model: ModelInfo
    threads: int
    records: int
    rounds: int
    stages: StageTimes
    matmul_share: float | None
    comparison: Comparison | None
    no_comparison: str | None

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints."""
        compared = self.comparison
        return {
            "streamer": __version__,
            "model": asdict(self.model),
            "threads": self.threads,
            "records": self.records,
            "rounds": self.rounds,
            "us_per_record": _rounded(self.stages.us_per_record),
            "engine_records_per_s": _rounded(self.stages.engine_records_per_s),
            "forward_tokens_per_s": _rounded(self.stages.forward_tokens_per_s),
            "padding": _rounded(self.stages.padding),
            "matmul_share": _rounded(self.matmul_share),
            "comparison": None if compared is None else _rounded(asdict(compared)),
            "no_comparison": self.no_comparison,
            "ratio_to_gliclass": None if compared is None else _rounded(compared.ratio),
            "ratio_to_gliclass_float32": None if compared is None else _rounded(compared.ratio_float32),
            "ratio_own_model_to_gliclass": None if compared is None else _rounded(compared.ratio_own_model),
        }


def run_bench(
    *,
    console: Console,
    model: ModelSettings,
    records: int,
    rounds: int,
    compare: bool | None,
    shape: EncoderShape = MINILM_L6,
) -> BenchResult:
    """Measure the road by stage with `model`, and our engine against gliclass on a checkpoint of `shape`.

    A `model` of the bundled architecture sets the shape, and takes part in the comparison. `compare` None: if gliclass
    is installed. Each of `rounds` rounds takes `records` records. `console` shows progress when it is a terminal.
    Raises UsageError for a model that cannot be had, and for a comparison without gliclass.
    """
    import torch

    from streamer.engine.independent import ARCHITECTURE
    from streamer.engine.loading import read_config

    version = gliclass_version()
    if compare and version is None:
        raise UsageError(f"--compare: {NO_GLICLASS}")
    classifier = build_classifier(model, max_tokens="auto")
    try:
        classifier.warm_up([bench_labels()])
        with progress_bar(console, "the road by stage", records * rounds) as advance:
            stages = measure_stages(classifier=classifier, records=records, rounds=rounds, advance=advance)
        info = classifier.describe()
    finally:
        classifier.close()
    config = {} if model.name == FAKE else read_config(model_directory(model))
    own_model = config.get("architecture_type") == ARCHITECTURE
    own_shape = encoder_shape(config)
    comparison = None
    if version is not None and compare is not False:
        sides = (2 if model.dtype == "float32" else 3) + own_model
        with progress_bar(console, "compared with gliclass", records * rounds * sides) as advance:
            comparison = compare_engines(
                version=version,
                shape=own_shape if own_model and own_shape else shape,
                model=model,
                own_model=own_model,
                records=records,
                rounds=rounds,
                advance=advance,
            )
    why_not = None if comparison else NO_GLICLASS if version is None else NOT_ASKED
    share = None if own_shape is None else _matmul_share(own_shape, info, stages)
    return BenchResult(info, torch.get_num_threads(), records, rounds, stages, share, comparison, why_not)


def _matmul_share(shape: EncoderShape, info: ModelInfo, stages: StageTimes) -> float:
    import torch

    from streamer.engine.devices import DTYPES

    ceiling = matmul_flops_per_s(torch.device(info.device), DTYPES[info.dtype])
    return stages.forward_tokens_per_s * flops_per_token(shape) / ceiling


def _rounded(value: Any) -> Any:
    """Floats to the digits that a measurement has."""
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def show_bench(console: Console, result: BenchResult) -> None:
    """The stages as a table with bars, then the comparison."""
    info, stages = result.model, result.stages
    console.print(f"{info.name} {info.revision}, {info.dtype} on {info.device}, torch threads: {result.threads}")
    table = Table()
    table.add_column("stage")
    table.add_column("us a record", justify="right")
    table.add_column("", width=BAR_WIDTH)
    total = sum(stages.us_per_record.values())
    for name, us in stages.us_per_record.items():
        table.add_row(name, f"{us:,.1f}", Bar(total, 0.0, us, width=BAR_WIDTH, color="cyan"))
    console.print(table)
    console.print(f"engine alone, text to scores: {stages.engine_records_per_s:,.0f} records/s")
    console.print(f"forward: {stages.forward_tokens_per_s:,.0f} tokens/s, {stages.padding:.1%} padding{_share(result)}")
    console.print(f"medians of {result.rounds} rounds, {result.records:,} records each")
    if result.comparison is None:
        console.print(f"no comparison with gliclass: {result.no_comparison}", markup=False)
    else:
        _show_comparison(console, result.comparison)


def _share(result: BenchResult) -> str:
    share = result.matmul_share
    return "" if share is None else f", {share:.0%} of what large matrix products reach here"


def _show_comparison(console: Console, compared: Comparison) -> None:
    console.print("against gliclass on one checkpoint, text to labels, 3 facets in rows of their own:")
    table = Table()
    for name in ("", "records/s", "ratio", "same", "same but for rounding", "most apart"):
        table.add_column(name, justify="right" if name else "left")
    theirs = f"gliclass {compared.gliclass_version}, float32"
    table.add_row(theirs, f"{compared.gliclass_records_per_s:,.1f}", "1.00", "", "", "")
    ours = (
        (compared.dtype, compared.streamer_records_per_s, compared.ratio, compared.agreement),
        ("float32", compared.streamer_float32_records_per_s, compared.ratio_float32, compared.agreement_float32),
    )
    for dtype, speed, ratio, agreed in dict.fromkeys(ours):
        figures = (f"{speed:,.1f}", f"{ratio:.2f}", f"{agreed.same:.1%}", f"{agreed.within_noise:.1%}")
        table.add_row(f"streamer, {dtype}", *figures, f"{agreed.most_apart:.1g}")
    if compared.own_model_records_per_s is not None:
        own = (f"{compared.own_model_records_per_s:,.1f}", f"{compared.ratio_own_model:.2f}")
        table.add_row(f"the model above, same encoder shape, {compared.dtype}", *own, "", "", "")
    console.print(table)
