"""`streamer bench` as a whole."""

from __future__ import annotations

import io
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from streamer.bench import run as bench
from streamer.bench.reference import EncoderShape
from streamer.bench.run import NO_GLICLASS, NOT_ASKED, BenchResult, run_bench, show_bench
from streamer.bench.stages import STAGES
from streamer.errors import UsageError
from streamer.settings import ModelSettings

TINY = EncoderShape(layers=1, hidden=32, heads=2, intermediate=48, vocabulary=600)
QUIET = Console(file=io.StringIO())


def quick(model: ModelSettings, *, compare: bool | None) -> BenchResult:
    return run_bench(console=QUIET, model=model, records=12, rounds=1, compare=compare, shape=TINY)


def shown(result: BenchResult) -> str:
    console = Console(file=io.StringIO(), width=160)
    show_bench(console, result)
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def test_the_figures_of_a_whole_run(tiny_bundled: Path) -> None:
    result = quick(ModelSettings(name=str(tiny_bundled), device="cpu"), compare=None)
    figures = orjson.loads(orjson.dumps(result.as_dict()))
    assert tuple(figures["us_per_record"]) == STAGES
    assert figures["engine_records_per_s"] > 0
    assert figures["model"]["name"] == str(tiny_bundled)
    assert figures["threads"] >= 1
    assert (figures["records"], figures["rounds"]) == (12, 1)
    assert figures["ratio_to_gliclass"] > 0
    assert figures["ratio_to_gliclass_float32"] > 0
    assert figures["ratio_own_model_to_gliclass"] > 0
    assert figures["forward_tokens_per_s"] > 0
    assert figures["padding"] == 0.0
    assert 0 < figures["matmul_share"] < 1
    assert figures["no_comparison"] is None
    for speed in ("gliclass", "streamer", "streamer_float32"):
        assert figures["comparison"][f"{speed}_records_per_s"] > 0
    assert figures["comparison"]["agreement"]["within_noise"] == 1.0
    assert "gliclass 0.1.21, float32" in shown(result)
    assert "the model above, same encoder shape" in shown(result)
    assert "of what large matrix products reach here" in shown(result)
    assert all(stage in shown(result) for stage in STAGES)


def test_without_a_comparison_the_reason_is_told() -> None:
    result = quick(ModelSettings(name="fake"), compare=False)
    assert result.as_dict()["ratio_to_gliclass"] is None
    assert result.as_dict()["ratio_own_model_to_gliclass"] is None
    assert result.as_dict()["matmul_share"] is None
    assert result.as_dict()["no_comparison"] == NOT_ASKED
    assert f"no comparison with gliclass: {NOT_ASKED}" in shown(result)


def test_without_gliclass_the_road_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "gliclass_version", lambda: None)
    result = quick(ModelSettings(name="fake"), compare=None)
    assert result.stages.engine_records_per_s > 0
    assert result.as_dict()["ratio_to_gliclass_float32"] is None
    assert result.no_comparison == NO_GLICLASS


def test_a_comparison_that_cannot_be_had_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "gliclass_version", lambda: None)
    with pytest.raises(UsageError, match=r"--compare: gliclass is not installed: pip install 'streamer\[bench\]'"):
        quick(ModelSettings(name="fake"), compare=True)
