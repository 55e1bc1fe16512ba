"""Imports point one way, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "streamer"

# module prefix -> prefixes inside the package it may import (itself always)
VOCABULARY = {"streamer.records", "streamer.facets", "streamer.errors"}
ALLOWED: dict[str, set[str]] = {
    "streamer.errors": set(),
    "streamer.facets": set(),
    "streamer.records": {"streamer.facets"},
    "streamer.observe": VOCABULARY | {"streamer.engine.base", "streamer.transport.base"},
    "streamer.engine": VOCABULARY,
    "streamer.transport": VOCABULARY,
    "streamer.telemetry": VOCABULARY
    | {
        "streamer.__version__",
        "streamer.observe",
        "streamer.engine.base",
        "streamer.transport.base",
        "streamer.traces",
        "streamer.drift.report",
    },
    "streamer.telemetry.bundle": VOCABULARY
    | {
        "streamer.drift.report",
        "streamer.engine.base",
        "streamer.observe",
        "streamer.page.access",
        "streamer.page.live",
        "streamer.page.routes",
        "streamer.telemetry",
    },
    "streamer.page": VOCABULARY
    | {
        "streamer.__version__",
        "streamer.dlq.codes",
        "streamer.drift.report",
        "streamer.engine.base",
        "streamer.loopback",
        "streamer.observe",
        "streamer.telemetry.logs",
    },
    "streamer.loopback": set(),
    "streamer.drift.report": set(),
    "streamer.drift.language": set(),
    "streamer.drift.baseline": {"streamer.errors", "streamer.drift.report"},
    "streamer.drift.counts": VOCABULARY | {"streamer.drift.language", "streamer.drift.report"},
    "streamer.drift.watch": VOCABULARY
    | {"streamer.observe", "streamer.transport.base", "streamer.drift.counts", "streamer.drift.report"},
    "streamer.traces": VOCABULARY | {"streamer.engine.base"},
    "streamer.shadow": VOCABULARY
    | {"streamer.decide", "streamer.engine.base", "streamer.events", "streamer.observe", "streamer.transport.base"},
    "streamer.settings_errors": set(),
    "streamer.settings_env": {"streamer.errors"},
    "streamer.settings_files": {"streamer.errors"},
    "streamer.settings_parts": {"streamer.errors"},
    "streamer.calibration": VOCABULARY | {"streamer.settings_errors"},
    "streamer.settings_labels": VOCABULARY
    | {"streamer.calibration", "streamer.settings_errors", "streamer.settings_parts"},
    "streamer.settings": VOCABULARY
    | {
        "streamer.calibration",
        "streamer.settings_env",
        "streamer.settings_errors",
        "streamer.settings_files",
        "streamer.settings_labels",
        "streamer.settings_page",
        "streamer.settings_parts",
        "streamer.settings_tracing",
        "streamer.settings_trust",
        "streamer.traces",
    },
    "streamer.settings_page": {"streamer.errors", "streamer.loopback", "streamer.settings_parts"},
    "streamer.settings_trust": {"streamer.settings_parts"},
    "streamer.settings_tracing": {"streamer.settings_parts"},
    "streamer.reload": VOCABULARY | {"streamer.settings"},
    "streamer.bounds": {"streamer.errors", "streamer.transport.kafka_range"},
    "streamer.dlq.codes": set(),
    "streamer.dlq.letters": VOCABULARY | {"streamer.encode"},
    "streamer.dlq.ledger": VOCABULARY,
    "streamer.dlq.redrive": VOCABULARY
    | {"streamer.dlq.ledger", "streamer.dlq.letters", "streamer.feed", "streamer.transport.base"},
    "streamer.terminal": set(),
    "streamer.dlq.show": VOCABULARY
    | {"streamer.dlq.codes", "streamer.dlq.letters", "streamer.dlq.redrive", "streamer.terminal"},
    "streamer.decode": VOCABULARY,
    "streamer.gather": VOCABULARY,
    "streamer.decide": VOCABULARY,
    "streamer.offsets": VOCABULARY,
    "streamer.event_writer": VOCABULARY | {"streamer.decide"},
    "streamer.encode": VOCABULARY | {"streamer.engine.base", "streamer.event_writer"},
    "streamer.delivery": VOCABULARY | {"streamer.offsets", "streamer.observe", "streamer.transport.base"},
    "streamer.transactions": VOCABULARY
    | {"streamer.delivery", "streamer.offsets", "streamer.observe", "streamer.transport.base"},
    "streamer.replay.report": {"streamer.terminal"},
    "streamer.replay.compare": VOCABULARY | {"streamer.replay.report"},
    "streamer.labels.wording": VOCABULARY | {"streamer.terminal"},
    "streamer.labels.hygiene": VOCABULARY | {"streamer.labels.wording", "streamer.terminal"},
    "streamer.labels.cluster": VOCABULARY,
    "streamer.labels.naming": VOCABULARY,
    "streamer.labels.suggest": VOCABULARY
    | {
        "streamer.engine.base",
        "streamer.labels.cluster",
        "streamer.labels.naming",
        "streamer.labels.texts",
        "streamer.terminal",
    },
    "streamer.feedback.corrections": VOCABULARY | {"streamer.events", "streamer.settings_errors", "streamer.terminal"},
    "streamer.feedback.store": VOCABULARY | {"streamer.feedback.corrections"},
    "streamer.feedback.join": VOCABULARY
    | {
        "streamer.decode",
        "streamer.feedback.store",
        "streamer.terminal",
        "streamer.transport.kafka_client",
        "streamer.transport.kafka_range",
    },
    "streamer.signals": set(),
    "streamer.tuning.bootstrap": set(),
    "streamer.tuning.metrics": VOCABULARY | {"streamer.tuning.evaluate_answers"},
    "streamer.tuning.metrics_scores": VOCABULARY | {"streamer.decide", "streamer.tuning.evaluate_answers"},
    "streamer.tuning.lora": set(),
    "streamer.tuning.checkpoint": {"streamer.errors"},
    "streamer.tuning.few_shot_data": VOCABULARY | {"streamer.tuning.data", "streamer.tuning.labelled"},
    "streamer.tuning.few_shot_model": VOCABULARY | {"streamer.engine"},
    "streamer.tuning.weak": VOCABULARY | {"streamer.tuning.few_shot_data"},
    "streamer.tuning.few_shot": VOCABULARY
    | {
        "streamer.tuning.checkpoint",
        "streamer.tuning.few_shot_data",
        "streamer.tuning.few_shot_model",
        "streamer.tuning.lora",
    },
    "streamer.pipeline": VOCABULARY
    | {
        "streamer.engine.base",
        "streamer.transport.base",
        "streamer.observe",
        "streamer.decode",
        "streamer.gather",
        "streamer.decide",
        "streamer.encode",
        "streamer.delivery",
        "streamer.traces",
    },
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def rule_of(module: str) -> str | None:
    """The longest rule that covers a module."""
    fitting = [rule for rule in ALLOWED if module == rule or module.startswith(rule + ".")]
    return max(fitting, key=len, default=None)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@pytest.mark.parametrize("module", [m for m in MODULES if rule_of(m) is not None])
def test_imports_point_one_way(module: str) -> None:
    rule = rule_of(module)
    assert rule is not None
    allowed = ALLOWED[rule] | {rule}
    for name in imported(MODULES[module]):
        if name.startswith("streamer."):
            fine = any(name == one or name.startswith(one + ".") for one in allowed)
            assert fine, f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("streamer.")])
def test_only_its_owner_imports_a_heavy_library(module: str) -> None:
    owners = {
        "confluent_kafka": ("streamer.transport.",),
        "kafka": ("streamer.transport.kafka_transactions_list",),
        "torch": ("streamer.engine.", "streamer.tuning.", "streamer.bench"),
        "transformers": ("streamer.engine.", "streamer.bench"),
        "prometheus_client": ("streamer.telemetry.prometheus",),
        "opentelemetry": ("streamer.telemetry.tracing",),
        "starlette": ("streamer.telemetry.http", "streamer.page."),
        "uvicorn": ("streamer.telemetry.http",),
    }
    for name in imported(MODULES[module]):
        owner = owners.get(name.partition(".")[0])
        if owner is not None:
            assert module.startswith(owner), f"{module} imports {name}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("streamer.engine.base", "confluent_kafka"),
        ("streamer.engine.scoring", "confluent_kafka"),
        ("streamer.engine.cache", "torch"),
        ("streamer.transport.kafka_source", "torch"),
        ("streamer.transport.kafka_sink", "torch"),
        ("streamer.transport.embedded", "torch"),
        ("streamer.pipeline", "torch"),
        ("streamer.serving", "opentelemetry"),
        ("streamer.pipeline", "confluent_kafka"),
        ("streamer.transport.kafka_range", "torch"),
        ("streamer.bounds", "confluent_kafka"),
        ("streamer.dlq.redrive", "confluent_kafka"),
        ("streamer.drift.watch", "pydantic"),
        ("streamer.shadow.worker", "confluent_kafka"),
        ("streamer.shadow.worker", "torch"),
        ("streamer.dlq.jobs", "torch"),
        ("streamer.cli", "confluent_kafka"),
        ("streamer.cli", "pydantic"),
        ("streamer.cli", "torch"),
        ("streamer.replay.command", "confluent_kafka"),
        ("streamer.feedback.command", "confluent_kafka"),
        ("streamer.feedback.join", "torch"),
        ("streamer.labels.command", "sklearn"),
        ("streamer.check.labels", "sklearn"),
        ("streamer.cli", "transformers"),
        ("streamer.cli", "sklearn"),
        ("streamer.tuning.labelled", "torch"),
        ("streamer.tuning.scored", "torch"),
        ("streamer.engine.bundled", "transformers"),  # two thirds of the time from start to ready
        ("streamer.engine.bundled", "huggingface_hub"),
    ],
)
def test_importing_does_not_bring(module: str, absent: str) -> None:
    code = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
