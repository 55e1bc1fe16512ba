"""What `streamer bench` found, and its JSON.

Enters: figures of the sections that were measured. Leaves: a BenchResult, as one JSON object. Must not know: how
anything is measured, terminals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from streamer import __version__
from streamer.bench.compare import Comparison
from streamer.bench.latency import Latency
from streamer.bench.scaling import Scaling
from streamer.bench.stages import StageTimes
from streamer.engine.base import ModelInfo

DIGITS = 4


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What was measured, with what; None for a section that was not. `threads` are torch's; without a comparison
    `no_comparison` says why.

    `matmul_share` is the arithmetic of the forward stage over what large matrix products reach on this device (see
    `ceiling.flops_per_token`); None for an encoder of another kind.
    """

    model: ModelInfo
    threads: int
    records: int
    rounds: int
    stages: StageTimes | None
    matmul_share: float | None
    latency: Latency | None
    scaling: Scaling | None
    comparison: Comparison | None
    no_comparison: str | None

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints; None for what was not measured."""
        stages, compared = self.stages, self.comparison
        found = {
            "streamer": __version__,
            "model": asdict(self.model),
            "threads": self.threads,
            "records": self.records,
            "rounds": self.rounds,
            "us_per_record": None if stages is None else stages.us_per_record,
            "engine_records_per_s": None if stages is None else stages.engine_records_per_s,
            "forward_tokens_per_s": None if stages is None else stages.forward_tokens_per_s,
            "padding": None if stages is None else stages.padding,
            "matmul_share": self.matmul_share,
            "latency": _latency(self.latency),
            "scaling": None
            if self.scaling is None
            else {**asdict(self.scaling), "growth": asdict(self.scaling.growth)},
            "comparison": None if compared is None else asdict(compared),
            "no_comparison": self.no_comparison,
            "ratio_to_gliclass": None if compared is None else compared.ratio,
            "ratio_to_gliclass_float32": None if compared is None else compared.ratio_float32,
            "ratio_own_model_to_gliclass": None if compared is None else compared.ratio_own_model,
        }
        rounded: dict[str, Any] = _rounded(found)
        return rounded


def _latency(found: Latency | None) -> dict[str, Any] | None:
    if found is None:
        return None
    lone = {**asdict(found.lone), "overhead": found.lone.overhead}
    return {**asdict(found), "lone": lone}


def _rounded(value: Any) -> Any:
    """Floats to the digits that a measurement has."""
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
