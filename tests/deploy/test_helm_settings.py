"""The chart's ConfigMaps, mounted as the kubelet mounts them: streamer takes them, and takes up changed label sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.reload import Reloader
from streamer.settings import load_settings
from streamer.settings_labels import LabelSetSettings
from streamer.settings_parts import SecretRef
from tests.calibrated import calibration_of
from tests.deploy.helm import (
    CHART,
    EXAMPLES,
    NAME,
    container,
    environment,
    example,
    found,
    mounted,
    render,
    set_,
    swap,
)

SMALL, TICKETS, POSTS = example("small-cpu"), example("ticket-routing"), example("social-monitoring")


@pytest.mark.parametrize("name", EXAMPLES)
def test_streamer_takes_the_settings_of_every_example(name: str, tmp_path: Path) -> None:
    objects = render(example(name))
    values = yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text(encoding="utf-8"))
    settings = load_settings(mounted(objects, tmp_path))
    assert [one.topic for one in settings.build_streams()] == [one["topic"] for one in values["config"]["streams"]]
    assert (settings.http.host, settings.http.port) == ("0.0.0.0", 9464)  # noqa: S104 - a pod's own address
    assert settings.delivery == values["config"].get("delivery", "at_least_once")
    for property_ in values.get("secrets", {}).get("kafka", {}):
        assert settings.kafka.properties[property_] == SecretRef(file=Path("/etc/streamer/secrets", property_))
    drain_s = settings.limits.drain_timeout_s
    if settings.delivery == "exactly_once":
        drain_s += settings.limits.commit_deadline_s
    (workload,) = [one for one in objects if one["kind"] in ("Deployment", "StatefulSet")]
    assert workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain_s


def test_the_chart_mounts_what_the_settings_name() -> None:
    mounts = {
        one["mountPath"] for one in container(render(SMALL, *set_(files={"baseline.json": "{}"})))["volumeMounts"]
    }
    assert {"/etc/streamer/streamer.yaml", "/etc/streamer/label-sets", "/etc/streamer/files"} <= mounts
    assert container(render(SMALL))["args"] == ["run", "--config", "/etc/streamer/streamer.yaml"]


@pytest.mark.parametrize("static", [False, True])
def test_each_pod_is_known_to_the_broker_by_its_name(
    static: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render(TICKETS, *set_(staticMembership=static))
    for name, one in environment(objects).items():
        if name.startswith("STREAMER_"):
            monkeypatch.setenv(name, one["value"].replace("$(POD_NAME)", f"{NAME}-2"))
    settings = load_settings(mounted(objects, tmp_path))
    assert settings.transactional_id() == "ticket-routing-prod-streamer-2"
    assert settings.kafka.group_instance_id == (f"{NAME}-2" if static else None)


def test_large_numbers_stay_numbers(tmp_path: Path) -> None:
    """Helm reads all numbers as floating point, and 1e+06 is text to a YAML reader."""
    limits = {"max_uncommitted_records": 1_000_000, "max_dead_letter_bytes": 100_000_000, "drain_timeout_s": 12.25}
    settings = load_settings(mounted(render(SMALL, *set_(config__limits=limits)), tmp_path))
    assert settings.limits.model_dump(include=set(limits)) == limits


def test_text_keeps_the_order_of_labels_and_so_its_calibration(tmp_path: Path) -> None:
    label_set = {"facets": {"mood": {"labels": {"weak": "faint", "bold": "loud", "calm": None}}}}
    local = LabelSetSettings.model_validate(label_set).build("feedback")
    text = yaml.safe_dump({"feedback": {"calibration": "label-sets/c.json", **label_set}}, sort_keys=False)
    values = set_(labelSets=text, labelSetFiles={"c.json": calibration_of(local).model_dump_json()})
    taken = load_settings(mounted(render(SMALL, *values), tmp_path)).build_label_sets()["feedback"]
    assert [label.name for label in taken.facets[0].labels] == ["weak", "bold", "calm"]
    assert taken.facets[0].correction is not None


def test_a_baseline_is_found_beside_the_settings(tmp_path: Path) -> None:
    values = set_(config__drift={"baseline": "files/baseline.json"}, files={"baseline.json": "  {}\n"})
    drift = load_settings(mounted(render(SMALL, *values), tmp_path)).drift
    assert drift is not None
    assert drift.baseline is not None
    assert drift.baseline.read_text() == "  {}\n"


class Pod:
    """A running pod: its settings file as when it started, and what its reloader does."""

    def __init__(self, objects: list[dict[str, Any]], directory: Path) -> None:
        self.label_sets = directory / "label-sets"
        path = mounted(objects, directory)
        settings = load_settings(path)
        self.failures: list[str] = []
        self._reloader = Reloader(
            path=path,
            settings=settings,
            label_sets=settings.build_label_sets(),
            interval_s=settings.reload.interval_s,
            take_up_topics=lambda settings: None,
            warm_up=lambda label_sets: None,
            failed=self.failures.append,
            clock=lambda: 0.0,
        )

    def upgrade(self, objects: list[dict[str, Any]]) -> Any:
        """What it takes up once the kubelet has passed the new ConfigMap on; its one settings file stays."""
        swap(self.label_sets, found(objects, "ConfigMap", f"{NAME}-label-sets")["data"])
        for _ in range(4):  # twice each: the files known, and a calibration that they name anew
            self._reloader.look()
        return self._reloader.take()


def test_a_running_pod_takes_up_changed_label_sets(tmp_path: Path) -> None:
    pod = Pod(render(SMALL), tmp_path)
    assert pod.upgrade(render(SMALL)) is None
    taken = pod.upgrade(render(SMALL, *set_(labelSets__feedback__facets__wish__threshold=0.7)))
    assert {one.name: one.threshold for one in taken["feedback"].facets}["wish"] == 0.7
    assert pod.failures == []


def test_a_running_pod_that_is_still_to_be_replaced_sees_no_new_settings(tmp_path: Path) -> None:
    pod = Pod(render(SMALL), tmp_path)
    both = set_(config__log={"level": "debug"}, labelSets__feedback__facets__wish__threshold=0.7)
    assert pod.upgrade(render(SMALL, *both)) is not None
    assert pod.failures == []


def test_a_running_pod_takes_up_a_calibration_that_comes_with_its_label_set(tmp_path: Path) -> None:
    pod = Pod(render(TICKETS), tmp_path)
    text = (pod.label_sets / "label-sets.yaml").read_text(encoding="utf-8")
    plain = load_settings(tmp_path / "streamer.yaml").build_label_sets()["tickets"]
    values = set_(
        labelSets=text.replace("tickets:\n", "tickets:\n  calibration: label-sets/c.json\n", 1),
        labelSetFiles={"c.json": calibration_of(plain).model_dump_json()},
    )
    assert pod.upgrade(render(TICKETS, *values))["tickets"].calibration is not None
    assert pod.failures == []


def test_a_running_pod_refuses_bad_label_sets_and_goes_on(tmp_path: Path) -> None:
    pod = Pod(render(TICKETS), tmp_path)
    assert pod.upgrade(render(TICKETS, *set_(labelSets="tickets: {facets: {mood: {labels: [good]}}}"))) is None
    assert len(pod.failures) == 1
    assert "at least two labels" in pod.failures[0]
