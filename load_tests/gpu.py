"""Everything that only a GPU can show, in one go: `python -m load_tests.gpu`, or `make bench-gpu`.

    python -m load_tests.gpu [--device cuda] [--json gpu.json]
    python -m load_tests.gpu --device cpu --quick      # the script itself, on any machine

First the correctness tests marked `gpu`, then each goal for the hardware. Nothing is downloaded, no Kafka is needed;
without gliclass the comparison with it is told as missing. A measurement that fails is told in one line and does not
keep the others from being made. Writes JSON, prints a table of goal, measured and met. Exit code 0 when all goals are
met, 1 when one is not or could not be measured, 2 without a device. On a CPU goals are shown but not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from load_tests import gpu_measures
from load_tests.gpu_measures import FULL, QUICK, Figures, Size

ROOT: Final = Path(__file__).parents[1]
TESTS: Final = "tests/engine/test_gpu.py"
TESTS_S: Final = 240.0
NOT_JUDGED, MET, MISSED, FAILED = "not judged", "met", "MISSED", "FAILED"


@dataclass(frozen=True, slots=True)
class Goal:
    """`figure` is where the measured number lies, by keys joined with dots; it must be at least or at most `bound`."""

    name: str
    measure: str
    figure: str
    bound: float
    at_least: bool
    unit: str

    def met(self, measured: float) -> bool:
        return measured >= self.bound if self.at_least else measured < self.bound

    @property
    def wanted(self) -> str:
        return f"{'>=' if self.at_least else '<'} {self.bound:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Line:
    """A goal and what became of it."""

    goal: str
    wanted: str
    measured: str
    verdict: str


GOALS: Final = (
    Goal("gliclass's pipeline, same checkpoint", "ratio_to_gliclass", "ratio", 25.0, True, "x"),
    Goal("ModernBERT-base shape, 16k tokens", "modernbert_mfu", "engine.mfu", 0.4, True, "of the matmul ceiling"),
    Goal("MiniLM shape, engine only", "minilm_engine", "records_per_s", 30_000.0, True, "records/s"),
    Goal("p99 at half load", "latency_at_half_load", "p99_ms", 50.0, False, "ms"),
)
MEASURES: Final[dict[str, Callable[[torch.device, Size], Figures]]] = {
    "modernbert_mfu": gpu_measures.modernbert_mfu,
    "minilm_engine": gpu_measures.minilm_engine,
    "captured_passes": gpu_measures.captured_passes,
    "latency_at_half_load": gpu_measures.latency_at_half_load,
    "ratio_to_gliclass": gpu_measures.ratio_to_gliclass,
    "deberta": gpu_measures.deberta,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write and show; returns the exit code."""
    asked = _parser().parse_args(arguments)
    if asked.device != "cpu" and not torch.cuda.is_available():
        print("no GPU: torch sees no CUDA device here; run this on a machine that has one", file=sys.stderr)
        return 2
    device = torch.device(asked.device)
    judged = device.type == "cuda" and not asked.quick
    figures: dict[str, Figures] = {"machine": machine(device)}
    _tell("tests", figures.setdefault("tests", run_tests()))
    for name, measure in MEASURES.items():
        figures[name] = attempt(measure, device, QUICK if asked.quick else FULL)
        _tell(name, figures[name])
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    lines = [tests_line(figures["tests"], judged=judged), *(goal_line(goal, figures, judged=judged) for goal in GOALS)]
    figures["goals"] = {"lines": [asdict(line) for line in lines]}
    asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(table(lines))
    return int(any(line.verdict in (MISSED, FAILED) for line in lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 ..., or cpu to try the script")
    parser.add_argument("--quick", action="store_true", help="tiny shapes and few rounds; no goal is judged")
    parser.add_argument("--json", type=Path, default=Path("bench-gpu.json"), help="where the figures go")
    return parser


def machine(device: torch.device) -> Figures:
    """What the figures were measured on."""
    facts: Figures = {"torch": torch.__version__, "device": str(device), "at": time.strftime("%Y-%m-%d %H:%M:%S")}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "gpu": properties.name,
            "capability": list(torch.cuda.get_device_capability(device)),
            "memory_gb": round(properties.total_memory / 1e9, 1),
        }
    return facts


def run_tests() -> Figures:
    """The tests marked `gpu`, by pytest without the project's settings, for they need none of its other packages."""
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(ROOT), "--noconftest", "-q"]
    command += ["-p", "no:cacheprovider", "--import-mode=importlib", "-rfE", "--tb=short", str(ROOT / TESTS)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TESTS_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"exit_code": 1, "summary": f"the tests took longer than {TESTS_S:.0f} s"}
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["nothing printed"]
    return {"exit_code": done.returncode, "summary": lines[-1], "output": lines[-200:] if done.returncode else []}


def attempt(measure: Callable[[torch.device, Size], Figures], device: torch.device, size: Size) -> Figures:
    """Its figures and how long they took, or an `error` that says in one line why there are none."""
    began = time.perf_counter()
    try:
        figures = measure(device, size)
    except Exception as error:  # whatever a device, a driver or a library raises: the other figures still count
        reason = next(iter(str(error).splitlines()), "")
        figures = {"error": f"{type(error).__name__}: {reason}"}
    return figures | {"took_s": round(time.perf_counter() - began, 2)}


def goal_line(goal: Goal, figures: dict[str, Figures], *, judged: bool) -> Line:
    found: Any = figures[goal.measure]
    if "error" in found:
        return Line(goal.name, goal.wanted, found["error"], FAILED)
    for key in goal.figure.split("."):
        found = found[key]
    verdict = NOT_JUDGED if not judged else MET if goal.met(found) else MISSED
    return Line(goal.name, goal.wanted, f"{found:.4g}", verdict)


def tests_line(tests: Figures, *, judged: bool) -> Line:
    verdict = FAILED if tests["exit_code"] else MET if judged else NOT_JUDGED
    return Line("correctness tests", "all pass", tests["summary"], verdict)


def table(lines: Sequence[Line]) -> str:
    """Goal, wanted, measured and verdict in columns."""
    rows = [("goal", "wanted", "measured", "met"), *((x.goal, x.wanted, x.measured, x.verdict) for x in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _tell(name: str, figures: Figures) -> None:
    shown = {key: value for key, value in figures.items() if key != "output"}
    print(f"{name}: {json.dumps(shown)[:600]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
