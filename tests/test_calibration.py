"""The calibration file: read as it was written, refused with one line where it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
import yaml

from streamer.calibration import CalibrationFile, read_calibration
from streamer.errors import UsageError
from streamer.facets import Calibration, Correction, Facet, Kind, Label, LabelSet
from streamer.settings import build_settings, load_settings
from tests.calibrated import calibration_of

MOOD = Facet("mood", Kind.SINGLE, (Label("bad"), Label("good")))
TOPIC = Facet("topic", Kind.MULTI, (Label("billing", "about a bill"), Label("outage")))
TICKETS = LabelSet("tickets", (MOOD, TOPIC))
SETTINGS: dict[str, Any] = {
    "label_sets": {
        "tickets": {
            "facets": {
                "mood": {"labels": ["bad", "good"]},
                "topic": {"kind": "multi", "labels": {"billing": "about a bill", "outage": None}},
            },
            "calibration": "calibrations/tickets.json",
        }
    },
    "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "tickets"}],
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Settings that name a calibration file, which fits."""
    (tmp_path / "calibrations").mkdir()
    (tmp_path / "calibrations" / "tickets.json").write_bytes(calibration_of(TICKETS, threshold=0.3).to_json())
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(SETTINGS))
    return tmp_path


def read(path: Path, label_set: LabelSet = TICKETS) -> CalibrationFile:
    return read_calibration(path, label_set, read=Path.read_bytes)


def test_a_file_survives_a_round_trip(directory: Path) -> None:
    written = calibration_of(TICKETS, threshold=0.3)
    found = read(directory / "calibrations" / "tickets.json")
    assert found == written
    assert found.to_json() == written.to_json()
    assert found.stamp == Calibration(written.version, "none")
    assert found.correction("mood") == Correction((0.5, 0.5), (-1.0, -1.0))
    assert found.correction("other") is None
    assert found.limits("topic") == {"threshold": 0.3}
    assert found.limits("other") == {}
    jsonschema.validate(orjson.loads(found.to_json()), CalibrationFile.model_json_schema())


def test_the_version_changes_with_what_decides_and_with_nothing_else() -> None:
    one = calibration_of(TICKETS)
    versions = {
        calibration_of(label_set, **changes).version
        for label_set, changes in (
            (TICKETS, {}),
            (TICKETS, {"slope": 0.6}),
            (TICKETS, {"bias": 0.0}),
            (TICKETS, {"threshold": 0.4}),
            (TICKETS, {"min_score": 0.4}),
            (TICKETS, {"min_margin": 0.4}),
            (TICKETS, {"revision": "other"}),
            (LabelSet("tickets", (MOOD, TOPIC), prompt="p"), {}),
        )
    }
    assert len(versions) == 8
    assert one.version == "24abbf38c9691541"
    assert calibration_of(replace(TICKETS, name="another")).version == one.version


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ((MOOD,), r"other facets \('topic'\)"),
        ((MOOD, replace(TOPIC, labels=TOPIC.labels[::-1])), "other labels of facet 'topic'"),
        ((MOOD, replace(TOPIC, labels=(*TOPIC.labels, Label("x")))), "other labels of facet 'topic'"),
        ((MOOD, replace(TOPIC, kind=Kind.SINGLE)), r"another kind of facet 'topic' \(multi\)"),
        ((MOOD, replace(TOPIC, labels=(Label("billing", "money"), Label("outage")))), "other facets, descriptions,"),
        ((MOOD, TOPIC, replace(TOPIC, name="more")), "other facets, descriptions, prompt or examples"),
    ],
)
def test_other_labels_are_refused(directory: Path, changed: tuple[Facet, ...], says: str) -> None:
    path = directory / "calibrations" / "tickets.json"
    with pytest.raises(UsageError, match=f"^{path}: was fitted for {says}.*run streamer calibrate again$"):
        read(path, LabelSet("tickets", changed))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["facets"]["topic"].update(threshold=0.9), "was changed after it was written"),
        (lambda c: c["facets"]["mood"]["labels"]["bad"].update(slope=-1), "not a calibration file"),
        (lambda c: c.update(schema_version=2), "schema_version"),
        (lambda c: c.pop("version"), r"version: is missing|version: .*missing|is missing"),
        (lambda c: c.update(more=1), "unknown key"),
    ],
)
def test_a_wrong_file_is_one_line(directory: Path, change: Callable[[dict[str, Any]], object], says: str) -> None:
    path = directory / "calibrations" / "tickets.json"
    content = orjson.loads(path.read_bytes())
    change(content)
    path.write_bytes(orjson.dumps(content))
    with pytest.raises(UsageError, match=says) as caught:
        load_settings(directory / "s.yaml")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b'{"schema_version": NaN}'])
def test_what_is_no_json_is_one_line(directory: Path, content: bytes) -> None:
    path = directory / "calibrations" / "tickets.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"not a calibration file") as caught:
        load_settings(directory / "s.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_who_names_it(directory: Path) -> None:
    (directory / "calibrations" / "tickets.json").unlink()
    says = r"No such file or directory; label_sets.tickets.calibration names it: write it with streamer calibrate"
    with pytest.raises(UsageError, match=says):
        load_settings(directory / "s.yaml")


def test_settings_name_a_file_relative_to_themselves(
    directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    found = load_settings(directory / "s.yaml").build_label_sets()["tickets"]
    written = calibration_of(TICKETS, threshold=0.3)
    assert found.calibration == written.stamp
    assert [facet.correction for facet in found.facets] == [Correction((0.5, 0.5), (-1.0, -1.0))] * 2
    assert found.facets[1].threshold == 0.3
    plain = load_settings(directory / "s.yaml", calibrated=False).build_label_sets()["tickets"]
    assert (plain.calibration, plain.version) == (None, TICKETS.version)
    assert found.version != plain.version
    assert found.scoring_key == plain.scoring_key


def test_limits_in_the_settings_win(directory: Path) -> None:
    content = yaml.safe_load((directory / "s.yaml").read_text())
    content["label_sets"]["tickets"]["facets"]["topic"]["threshold"] = 0.5  # the default, and yet a wish
    (directory / "s.yaml").write_text(yaml.safe_dump(content))
    (directory / "calibrations" / "tickets.json").write_bytes(
        calibration_of(TICKETS, threshold=0.3, min_margin=0.1).to_json()
    )
    mood, topic = load_settings(directory / "s.yaml").build_label_sets()["tickets"].facets
    assert (topic.threshold, topic.min_margin) == (0.5, 0.1)
    assert mood.min_margin == 0.1


def test_settings_without_a_file_cannot_name_one() -> None:
    with pytest.raises(UsageError, match=r"^x: label_sets\.tickets\.calibration: only a settings file"):
        build_settings(SETTINGS, origin="x")
