"""Evaluating a settings file on labelled records: alone, against another one, and what stands in the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console
from sklearn.metrics import f1_score

from streamer.calibration import (
    CalibrationFile,
    FacetCalibration,
    FittedModel,
    LabelCorrection,
    Quality,
    version_of,
)
from streamer.engine.fake import FakeClassifier
from streamer.errors import UsageError
from streamer.offline import classify_texts, label_set_from_settings
from streamer.records import Verdict
from streamer.settings import load_settings
from streamer.tuning.evaluate_records import RecordsWish, evaluate_records
from streamer.tuning.evaluate_result import RecordsEvaluation

MOOD: dict[str, Any] = {"labels": ["good", "bad"], "min_margin": 0.1}
TOPIC: dict[str, Any] = {"kind": "multi", "labels": ["billing", "outage", "delay"], "threshold": 0.6}
UNSAID: dict[str, Any] = {"labels": ["x", "y"]}
TEXTS = [f"text {i}" for i in range(200)]


def settings(path: Path, facets: Mapping[str, Any], model: str = "fake") -> Path:
    content = {
        "kafka": {"bootstrap_servers": "embedded"},
        "model": {"name": model},
        "label_sets": {"tickets": {"facets": dict(facets)}},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "tickets"}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return settings(tmp_path / "new.yaml", {"mood": MOOD, "topic": TOPIC, "unsaid": UNSAID})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "labelled.jsonl"
    rows = [
        {"text": text, "mood": "good" if i % 3 else "bad", "topic": ["billing"] if i % 2 else []}
        for i, text in enumerate(TEXTS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def evaluated(data: Path, config: Path, **wishes: Any) -> RecordsEvaluation:
    defaults: dict[str, Any] = {
        "label_set": None,
        "model": {},
        "against": None,
        "against_model": None,
        "text": [],
        "split": None,
        "seed": 1,
    }
    wish = RecordsWish(data=data, config=config, **{**defaults, **wishes})
    return evaluate_records(wish, console=Console(quiet=True))


def test_figures_are_those_of_what_classify_gives(data: Path, config: Path) -> None:
    result = evaluated(data, config)
    classifier = FakeClassifier(window_tokens=512, max_tokens=4096, window_s=0.0, record_s=0.0)
    label_set = label_set_from_settings(load_settings(config), None)
    verdicts = classify_texts(classifier, label_set, TEXTS)
    classifier.close()
    given = [{label for facet in one.facets for label in facet.labels} for one in verdicts if isinstance(one, Verdict)]
    mood, topic = result.facets
    for facet, right in ((mood, ["bad", "good"]), (topic, ["billing"])):
        for label in facet.labels:
            if label.label in right:
                truth = [
                    (i % 3 == 0) if label.label == "bad" else (i % 3 != 0) if label.label == "good" else i % 2 == 1
                    for i in range(200)
                ]
                expected = f1_score(truth, [label.label in one for one in given])
                assert label.figures.f1.value == pytest.approx(expected)
    abstained = [one.facets[0].abstained for one in verdicts if isinstance(one, Verdict)]
    assert mood.answered.value == pytest.approx(1 - np.mean(abstained))
    assert 0 < mood.answered.value < 1
    assert (result.records, result.unknown) == (200, ("unsaid",))
    assert (result.side.model, result.side.version) == ("fake", label_set.version)


def test_it_repeats(data: Path, config: Path) -> None:
    one, two, other = (evaluated(data, config, seed=seed).as_dict() for seed in (1, 1, 2))
    for result in (one, two, other):
        del result["seconds"], result["seed"]
    # NaN is not equal to itself
    assert json.dumps(one) == json.dumps(two)
    assert json.dumps(one) != json.dumps(other)


def test_against_other_settings(data: Path, config: Path, tmp_path: Path) -> None:
    other = settings(tmp_path / "old.yaml", {"topic": {**TOPIC, "threshold": 0.9}, "mood": {**UNSAID}})
    comparison = evaluated(data, config, against=other).comparison
    assert comparison is not None
    assert [one.facet for one in comparison.facets] == ["topic"]
    assert comparison.left_out == ("mood",)
    assert comparison.old.settings == "old.yaml"
    threshold = settings(tmp_path / "alone.yaml", {"mood": MOOD, "topic": {**TOPIC, "threshold": 0.9}})
    by_name = {one.figure: one for one in comparison.facets[0].differences}
    assert by_name["macro_f1"].new == pytest.approx(evaluated(data, config).facets[1].macro.f1.value)
    assert by_name["macro_f1"].old == pytest.approx(evaluated(data, threshold).facets[1].macro.f1.value)


def test_against_another_model(data: Path, config: Path, tiny_bundled: Path) -> None:
    result = evaluated(data, config, against_model=str(tiny_bundled))
    assert result.comparison is not None
    assert (result.side.model, result.comparison.old.model) == ("fake", str(tiny_bundled))
    assert [one.facet for one in result.comparison.facets] == ["mood", "topic"]


def test_the_other_label_set_may_have_another_name(data: Path, config: Path, tmp_path: Path) -> None:
    other = settings(tmp_path / "old.yaml", {"topic": TOPIC})
    other.write_text(other.read_text().replace("tickets", "mails"))
    comparison = evaluated(data, config, against=other).comparison
    assert comparison is not None
    assert comparison.old.label_set == "mails"


def calibrated(config: Path, revision: str) -> Path:
    """Settings whose first facet is corrected by a calibration for a revision of the model."""
    label_set = load_settings(config).build_label_sets()["tickets"]
    plain = {"log_loss": 0.5, "calibration_error": 0.1, "accuracy": 0.5, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    quality = Quality(**plain, abstained=0.0)
    labels = {"good": LabelCorrection(slope=0.3, bias=1.0), "bad": LabelCorrection(slope=0.3, bias=0.0)}
    mood = FacetCalibration(
        kind="single", labels=labels, threshold=None, min_score=None, min_margin=None, goal=None, rows=200,
        shrinkage="none", before=quality, after=quality,
    )  # fmt: skip
    facets = {"mood": mood}
    file = CalibrationFile(
        schema_version=1,
        version=version_of(scoring_key=label_set.scoring_key, model_revision=revision, facets=facets),
        label_set="tickets",
        scoring_key=label_set.scoring_key,
        model=FittedModel(name="fake", revision=revision),
        source="x",
        rows=200,
        created_at="2026-01-01T00:00:00Z",
        facets=facets,
    )
    (config.parent / "calibration.json").write_bytes(file.to_json())
    content = yaml.safe_load(config.read_text())
    content["label_sets"]["tickets"]["calibration"] = "calibration.json"
    path = config.with_name("calibrated.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_calibration_is_applied_and_told(data: Path, config: Path) -> None:
    result = evaluated(data, calibrated(config, "none"), against=config)
    assert result.side.calibration is not None
    assert result.comparison is not None
    by_name = {one.figure: one for one in result.comparison.facets[0].differences}
    assert by_name["brier"].new != by_name["brier"].old
    assert by_name["accuracy_at_1"].new != by_name["accuracy_at_1"].old  # a bias changes the order
    assert all(one.change.value == 0 for one in result.comparison.facets[1].differences)


def test_a_calibration_for_another_model_is_refused(data: Path, config: Path) -> None:
    with pytest.raises(UsageError, match="calibration: was fitted for revision other"):
        evaluated(data, calibrated(config, "other"))
    with pytest.raises(UsageError, match="calibration: was fitted for revision other"):
        evaluated(data, config, against=calibrated(config, "other"))
    with pytest.raises(UsageError, match="--against-model: the calibration of label set 'tickets' is for one model"):
        evaluated(data, calibrated(config, "none"), against_model="bundled")


def test_the_model_of_the_settings_can_be_overridden(data: Path, config: Path, tiny_bundled: Path) -> None:
    result = evaluated(data, config, model={"name": str(tiny_bundled), "dtype": "float32"})
    assert result.side.model == str(tiny_bundled)


def test_wrong_use_is_told_before_a_model_is_loaded(data: Path, tmp_path: Path) -> None:
    config = settings(tmp_path / "new.yaml", {"mood": MOOD, "topic": TOPIC}, model="no/such/model")
    other = settings(tmp_path / "old.yaml", {"unsaid": UNSAID})
    with pytest.raises(UsageError, match="nothing to compare"):
        evaluated(data, config, against=other)
    with pytest.raises(UsageError, match="no label set 'x'"):
        evaluated(data, config, label_set="x")
    with pytest.raises(UsageError, match="no column 'body'"):
        evaluated(data, config, text=["body"])
    with pytest.raises(UsageError, match="no column 'split'"):
        evaluated(data, config, split="test")
