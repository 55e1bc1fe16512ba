"""`streamer calibrate` from the labelled file to labels by the calibrated scores, on a model whose logits are known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from streamer.app import build_classifier
from streamer.calibration import CalibrationFile
from streamer.cli import app
from streamer.engine.base import Classifier
from streamer.errors import UsageError
from streamer.offline import classify_texts
from streamer.records import Verdict
from streamer.settings import Settings, load_settings
from streamer.tuning.calibrate_run import Wish, run_calibrate
from streamer.tuning.scored import score_records

SETTINGS: dict[str, Any] = {
    "model": {"name": "fake"},
    "label_sets": {
        "tickets": {
            "facets": {
                "mood": {"labels": ["bad", "good", "mixed"]},
                "topic": {"kind": "multi", "labels": ["billing", "outage"]},
                "unsaid": {"labels": ["x", "y"]},
            }
        }
    },
    "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "tickets"}],
}
TEXTS = [f"text {i}" for i in range(300)]


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    one = build_classifier(Settings(**SETTINGS).model, max_tokens="auto")
    yield one
    one.close()


@pytest.fixture
def directory(tmp_path: Path, classifier: Classifier) -> Path:
    """Settings, and labels drawn from a third of the model's logits: it is three times too sure of itself."""
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SETTINGS))
    label_set = load_settings(tmp_path / "s.yaml").build_label_sets()["tickets"]
    mood, topic, _ = score_records(classifier, label_set, TEXTS, lambda done: None)
    random = np.random.default_rng(3)
    best = (mood / 3 + random.gumbel(size=mood.shape)).argmax(axis=1)
    hold = random.random(topic.shape) < 1 / (1 + np.exp(-topic / 3))
    with (tmp_path / "labelled.jsonl").open("w") as file:
        for text, mine, theirs in zip(TEXTS, best, hold, strict=True):
            names = [name for name, holds in zip(("billing", "outage"), theirs, strict=True) if holds]
            labels = {"mood": ("bad", "good", "mixed")[mine], "topic": names}
            file.write(json.dumps({"text": text, "labels": labels}) + "\n")
    return tmp_path


def wish(directory: Path, **changes: Any) -> Wish:
    values: dict[str, Any] = {
        "data": directory / "labelled.jsonl",
        "config": directory / "s.yaml",
        "label_set": None,
        "out": directory / "c.json",
        "goals": (),
        "accuracy": None,
        "text": (),
        "split": None,
        "overwrite": False,
    }
    return Wish(**{**values, **changes})


def calibrate(directory: Path, **changes: Any) -> tuple[CalibrationFile, str]:
    """What was found, and all that was shown."""
    console = Console(width=120)
    with console.capture() as shown:
        found = run_calibrate(wish(directory, **changes), console=console, out=console)
    return found, shown.get()


def name_it(directory: Path, file: str = "c.json", **facet: Any) -> None:
    content = yaml.safe_load((directory / "s.yaml").read_text())
    content["label_sets"]["tickets"]["calibration"] = file
    content["label_sets"]["tickets"]["facets"]["topic"].update(facet)
    (directory / "s.yaml").write_text(yaml.safe_dump(content))


def test_the_planted_temperature_is_found_written_and_shown(directory: Path) -> None:
    found, shown = calibrate(directory)
    assert CalibrationFile.model_validate_json((directory / "c.json").read_bytes()) == found
    assert [path.name for path in directory.iterdir() if path.name.startswith(".")] == []
    for facet in ("mood", "topic"):
        slopes = [one.slope for one in found.facets[facet].labels.values()]
        assert slopes == pytest.approx([1 / 3] * len(slopes), rel=0.35)
        assert found.facets[facet].after.log_loss < found.facets[facet].before.log_loss
    assert (found.rows, found.source, found.model.revision) == (300, "labelled.jsonl", "none")
    assert "unsaid" not in found.facets
    assert "facet 'unsaid' stays as it is: fewer than 40 rows tell of it" in shown
    assert "to use it, name it in the settings: label_sets.tickets.calibration: c.json" in shown
    assert "mood (single, 300 rows)" in shown


def test_settings_that_name_it_label_by_it(directory: Path, classifier: Classifier) -> None:
    plain = load_settings(directory / "s.yaml").build_label_sets()["tickets"]
    found, _ = calibrate(directory, goals=("topic:max-f1",))
    name_it(directory)
    calibrated = load_settings(directory / "s.yaml").build_label_sets()["tickets"]
    assert calibrated.calibration == found.stamp
    assert calibrated.facets[1].threshold == found.facets["topic"].threshold
    classifier.warm_up([plain, calibrated])

    def surest(label_set: Any) -> float:
        answers = classify_texts(classifier, label_set, TEXTS)
        return float(np.mean([max(a.facets[0].scores.values()) for a in answers if isinstance(a, Verdict)]))

    assert surest(calibrated) < surest(plain) - 0.15


def test_the_named_file_is_replaced_only_where_asked(directory: Path) -> None:
    name_it(directory)
    first, _ = calibrate(directory, out=None)
    with pytest.raises(UsageError, match=r"c\.json: exists already; replace it with --overwrite"):
        calibrate(directory, out=None)
    again, shown = calibrate(directory, out=None, overwrite=True, goals=("max-f1",))
    assert again.version != first.version
    assert "to use it" not in shown


def test_a_file_for_other_labels_can_be_replaced(directory: Path) -> None:
    name_it(directory)
    calibrate(directory)
    content = yaml.safe_load((directory / "s.yaml").read_text())
    content["label_sets"]["tickets"]["facets"]["unsaid"]["labels"].append("z")
    (directory / "s.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match="was fitted for other facets, descriptions"):
        load_settings(directory / "s.yaml")
    calibrate(directory, overwrite=True)
    load_settings(directory / "s.yaml")


def test_limits_that_the_settings_hold_are_told(directory: Path) -> None:
    name_it(directory, threshold=0.7)
    found, shown = calibrate(directory, goals=("topic:cost=FP:1,FN:3",))
    assert found.facets["topic"].threshold == 0.25
    place = "label_sets.tickets.facets.topic.threshold is 0.7 in the settings"
    assert f"{place}, which wins; remove it there for 0.25" in " ".join(shown.split())
    _, shown = calibrate(directory, overwrite=True)
    assert f"{place}, and now means corrected scores" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"out": None}, "say where to write with --out, or name a file in label_sets.tickets.calibration"),
        ({"out": Path("/nowhere/c.json")}, "there is no directory /nowhere"),
        ({"label_set": "ticket"}, "no label set 'ticket'"),
        ({"goals": ("topic:precision>=0.999",)}, "facet 'topic': no threshold reaches precision 0.999"),
        ({"goals": ("tpic:max-f1",)}, "has no facet 'tpic'"),
        ({"split": "x"}, "no column 'split'"),
    ],
)
def test_what_cannot_be_done_is_one_line(directory: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        calibrate(directory, **changes)
    assert "\n" not in str(caught.value)
    assert not (directory / "c.json").exists()


def test_too_few_rows(directory: Path) -> None:
    lines = (directory / "labelled.jsonl").read_text().splitlines()[:39]
    (directory / "labelled.jsonl").write_text("\n".join(lines))
    with pytest.raises(UsageError, match=r"too few labelled rows \(39 tell of 'mood', 39 .*at least 40 are needed"):
        calibrate(directory)


def test_the_command(directory: Path) -> None:
    arguments = ["calibrate", str(directory / "labelled.jsonl"), "-c", str(directory / "s.yaml")]
    done = CliRunner().invoke(
        app, [*arguments, "--out", str(directory / "c.json"), "--goal", "mood:cost=FP:1,FN:9", "--json"]
    )
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout.strip().splitlines()[-1])
    assert printed["facets"]["mood"]["min_score"] == 0.1
    assert (directory / "c.json").is_file()
