"""`streamer bench` as a whole."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from streamer.bench import run as bench
from streamer.bench.latency import LOADS
from streamer.bench.reference import EncoderShape
from streamer.bench.result import BenchResult
from streamer.bench.run import (
    COMPARE,
    LATENCY,
    NO_GLICLASS,
    NOT_ASKED,
    SCALING,
    SECTIONS,
    parse_sections,
    require_picture,
    run_bench,
    write_picture,
)
from streamer.bench.show import show_bench
from streamer.bench.stages import STAGES
from streamer.errors import UsageError
from streamer.settings import ModelSettings

TINY = EncoderShape(layers=1, hidden=32, heads=2, intermediate=48, vocabulary=600)
QUIET = Console(file=io.StringIO())


def quick(model: ModelSettings, *sections: str) -> BenchResult:
    chosen: Collection[str] | None = sections or None
    return run_bench(console=QUIET, model=model, records=12, rounds=1, load_s=0.2, sections=chosen, shape=TINY)


def shown(result: BenchResult, *, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_bench(console, result)
    text = console.file
    assert isinstance(text, io.StringIO)
    return " ".join(text.getvalue().split())


def test_the_figures_of_a_whole_run(tiny_bundled: Path, tmp_path: Path) -> None:
    result = quick(ModelSettings(name=str(tiny_bundled), device="cpu"))
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
    assert figures["latency"]["capacity_records_per_s"] > 0
    assert figures["latency"]["lone"]["overhead"] >= 0
    assert [one["load"] for one in figures["latency"]["loads"]] == list(LOADS)
    assert figures["scaling"]["growth"].keys() == {"from_labels", "to_labels", "cost", "cpu", "tokens"}
    assert "gliclass 0.1.21, float32" in shown(result)
    assert "the model above, same encoder shape" in shown(result)
    assert "of what large matrix products reach here" in shown(result)
    assert "a lone record" in shown(result)
    assert "from 16 to 128 labels" in shown(result)
    assert "…" not in shown(result, width=80), "no figure is cut on a terminal of 80 columns"
    assert all(stage in shown(result) for stage in STAGES)
    write_picture(tmp_path / "bench.svg", result)
    assert (tmp_path / "bench.svg").read_text().startswith("<svg")


def test_what_was_not_asked_for_is_not_measured() -> None:
    result = quick(ModelSettings(name="fake"), "stages")
    figures = result.as_dict()
    assert figures["engine_records_per_s"] > 0
    for name in ("latency", "scaling", "comparison", "ratio_to_gliclass", "ratio_own_model_to_gliclass"):
        assert figures[name] is None
    assert figures["matmul_share"] is None, "the fake model multiplies nothing"
    assert figures["no_comparison"] == NOT_ASKED
    assert f"no comparison with gliclass: {NOT_ASKED}" in shown(result)
    assert quick(ModelSettings(name="fake"), LATENCY).as_dict()["us_per_record"] is None


def test_without_gliclass_the_rest_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "gliclass_version", lambda: None)
    monkeypatch.setattr(bench, "SECTIONS", ("stages", COMPARE))
    result = quick(ModelSettings(name="fake"))
    assert result.stages is not None
    assert result.as_dict()["ratio_to_gliclass_float32"] is None
    assert result.no_comparison == NO_GLICLASS


def test_a_comparison_that_cannot_be_had_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "gliclass_version", lambda: None)
    with pytest.raises(UsageError, match=r"--only compare: gliclass is not installed: pip install 'streamer\[bench\]'"):
        quick(ModelSettings(name="fake"), COMPARE)


def test_sections_are_named_in_one_flag_or_several() -> None:
    assert parse_sections([]) is None
    assert parse_sections(["stages, latency", "scaling"]) == frozenset(("stages", LATENCY, SCALING))
    assert parse_sections([",".join(SECTIONS)]) == frozenset(SECTIONS)
    with pytest.raises(UsageError, match="--only 'speed': no such section; use one or more of stages,latency,"):
        parse_sections(["stages,speed"])
    with pytest.raises(UsageError, match="--only '': no such section"):
        parse_sections([""])


def test_a_picture_that_could_not_be_had_is_refused_before_measuring(tmp_path: Path) -> None:
    require_picture(tmp_path / "a.svg", None)
    require_picture(tmp_path / "a.svg", {SCALING})
    for path, sections, says in (
        (tmp_path / "a.png", None, r"ends in \.svg"),
        (tmp_path / "none" / "a.svg", None, "there is no directory"),
        (tmp_path / "a.svg", {"stages", COMPARE}, "--picture shows latency and scaling"),
    ):
        with pytest.raises(UsageError, match=says):
            require_picture(path, sections)


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(UsageError, match="Is a directory"):
        write_picture(tmp_path / "a.svg", quick(ModelSettings(name="fake"), LATENCY))
