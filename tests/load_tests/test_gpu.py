"""What the GPU script does without a GPU: arguments, judging, the table, and its measures at a tiny size."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from load_tests import gpu
from load_tests.gpu_measures import QUICK, Figures, Size, deberta, modernbert_mfu
from load_tests.gpu_shapes import LABEL, SEPARATOR, random_rows

CPU = torch.device("cpu")
FAST = gpu.Goal("speed", "race", "engine.rate", 10.0, True, "records/s")
SOON = gpu.Goal("latency", "race", "p99_ms", 50.0, False, "ms")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_device_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("no GPU: ")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("goal", "figures", "judged", "measured", "verdict"),
    [
        (FAST, {"engine": {"rate": 10.0}}, True, "10", "met"),
        (FAST, {"engine": {"rate": 9.99}}, True, "9.99", "MISSED"),
        (SOON, {"p99_ms": 49.0}, True, "49", "met"),
        (SOON, {"p99_ms": 50.0}, True, "50", "MISSED"),
        (SOON, {"p99_ms": 900.0}, False, "900", "not judged"),
        (SOON, {"error": "RuntimeError: out of memory"}, False, "RuntimeError: out of memory", "FAILED"),
    ],
)
def test_goals_are_judged(goal: gpu.Goal, figures: Figures, judged: bool, measured: str, verdict: str) -> None:
    line = gpu.goal_line(goal, {"race": figures}, judged=judged)
    assert (line.measured, line.verdict) == (measured, verdict)
    shown = gpu.table([line]).splitlines()
    assert len(shown) == 2
    assert shown[1].split()[-1] == verdict.split()[-1]


def test_a_measure_that_fails_is_told_in_one_line() -> None:
    def broken(device: torch.device, size: Size) -> Figures:
        raise RuntimeError("no kernel image\nis available for this device")

    figures = gpu.attempt(broken, CPU, QUICK)
    assert figures["error"] == "RuntimeError: no kernel image"


def test_it_runs_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With stand-ins for what takes long; the figures are in the file, the verdicts decide the exit code."""
    found: Figures = {"engine": {"rate": 12.0}, "p99_ms": 60.0}
    monkeypatch.setattr(gpu, "run_tests", lambda: {"exit_code": 0, "summary": "29 passed"})
    monkeypatch.setattr(gpu, "MEASURES", {"race": lambda device, size: found})
    monkeypatch.setattr(gpu, "GOALS", (FAST, SOON))
    out = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--quick", "--json", str(out)]
    assert gpu.main(arguments) == 0
    assert capsys.readouterr().out.count("not judged") == 3
    monkeypatch.setattr(gpu, "run_tests", lambda: {"exit_code": 1, "summary": "1 failed"})
    assert gpu.main(arguments) == 1
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["race"]["engine"] == {"rate": 12.0}
    assert [line["verdict"] for line in written["goals"]["lines"]] == ["FAILED", "not judged", "not judged"]


@pytest.mark.parametrize("measure", [modernbert_mfu, deberta])
def test_measures_of_random_weights_run_anywhere(measure: Callable[[torch.device, Size], Figures]) -> None:
    figures = measure(CPU, QUICK)["engine"]
    assert figures["tokens_per_s"] > figures["rows_per_s"] > 0
    assert math.isfinite(figures["mfu"])


@settings(max_examples=20, deadline=None)
@given(tokens=st.integers(200, 4_000), labels=st.integers(1, 9), seed=st.integers(0, 9))
def test_rows_fill_a_batch_longest_first(tokens: int, labels: int, seed: int) -> None:
    rows = random_rows(tokens, labels=labels, shortest=20, longest=100, vocabulary=300, seed=seed)
    lengths = [len(row) for row in rows]
    assert lengths == sorted(lengths, reverse=True)
    assert tokens - 100 < sum(lengths) <= tokens
    assert all(row.count(LABEL) == labels and row.count(SEPARATOR) == 1 for row in rows)
    assert max(max(row) for row in rows) < 300
