"""Settings: defaults, environment, and one clear line for whatever is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.demo.run import settings_path
from streamer.errors import UsageError
from streamer.facets import Kind, Label, Route
from streamer.settings import Settings, build_model_settings, build_settings, load_settings

GOOD: dict[str, Any] = {
    "kafka": {"bootstrap_servers": "broker:9092"},
    "label_sets": {
        "tickets": {
            "facets": {
                "mood": {"labels": ["bad", "good"]},
                "topic": {
                    "kind": "multi",
                    "threshold": 0.4,
                    "labels": {"billing": "about a bill", "hardware": ["laptop", "phone"]},
                },
            },
            "routes": [{"when": {"facet": "topic", "label": "billing", "score": 0.6}, "to": "tickets.billing"}],
        }
    },
    "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "tickets"}],
}


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = copy.deepcopy(GOOD)
    change(content)
    return content


def when(content: dict[str, Any]) -> dict[str, Any]:
    condition: dict[str, Any] = content["label_sets"]["tickets"]["routes"][0]["when"]
    return condition


def shadow(content: dict[str, Any], stream: str, **changes: object) -> None:
    content["shadow"] = {"streams": {stream: {"label_set": "tickets", "topic": "in.shadow", **changes}}}


def test_good_settings_become_label_sets_and_streams() -> None:
    settings = build_settings(GOOD, origin="x")
    label_set = settings.build_label_sets()["tickets"]
    mood, topic = label_set.facets
    assert (mood.kind, topic.kind, topic.threshold) == (Kind.SINGLE, Kind.MULTI, 0.4)
    assert topic.labels == (Label("billing", "about a bill"), Label("hardware.laptop"), Label("hardware.phone"))
    assert label_set.routes == (Route("topic", "billing", 0.6, "tickets.billing"),)
    assert not label_set.all_matching
    (stream,) = settings.build_streams()
    assert (stream.text, stream.parse_json, stream.keep_timestamp) == (("/text",), True, True)
    assert settings.delivery == "at_least_once"


def test_a_route_of_abstention_reaches_the_label_set() -> None:
    review = {"when": {"facet": "mood", "abstained": True}, "to": "tickets.review"}
    settings = build_settings(changed(lambda c: c["label_sets"]["tickets"]["routes"].append(review)), origin="x")
    assert settings.build_label_sets()["tickets"].routes[1] == Route("mood", None, 0.0, "tickets.review")


def test_a_baseline_lies_beside_the_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "streamer.yaml"
    for baseline, found in (("baseline.json", tmp_path / "baseline.json"), ("/etc/b.json", Path("/etc/b.json"))):
        file.write_text(yaml.safe_dump({**GOOD, "drift": {"baseline": baseline}}))
        drift = load_settings(file).drift
        assert drift is not None
        assert drift.baseline == found
    file.write_text(yaml.safe_dump({**GOOD, "drift": {}}))
    drift = load_settings(file).drift
    assert drift is not None
    assert drift.baseline is None
    assert load_settings(file).shadow is None


def test_a_shadow_has_settings_of_its_own() -> None:
    settings = build_settings(changed(lambda c: shadow(c, "in", share=0.2)), origin="x")
    assert settings.shadow is not None
    assert settings.shadow.model is None
    assert settings.shadow.streams["in"].share == 0.2


def test_all_matching_reaches_the_label_set() -> None:
    every = changed(lambda c: c["label_sets"]["tickets"].update(all_matching=True))
    assert build_settings(every, origin="x").build_label_sets()["tickets"].all_matching


def test_the_demo_settings_are_good() -> None:
    assert {stream.topic for stream in load_settings(settings_path()).streams} == {"demo.tickets", "demo.posts"}


def test_the_environment_overrides_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_KAFKA__BOOTSTRAP_SERVERS", "other:9092")
    monkeypatch.setenv("STREAMER_MODEL__DTYPE", "float32")
    settings = build_settings(GOOD, origin="x")
    assert settings.kafka.bootstrap_servers == "other:9092"
    assert settings.kafka.group_id == "streamer"
    assert settings.model.dtype == "float32"


def facet(content: dict[str, Any]) -> dict[str, Any]:
    mood: dict[str, Any] = content["label_sets"]["tickets"]["facets"]["mood"]
    return mood


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(kafak={}), "kafak: unknown key (did you mean 'kafka'?)"),
        (lambda c: facet(c).update(treshold=1), "mood.treshold: unknown key (did you mean 'threshold'?)"),
        (lambda c: facet(c).update(threshold=7), "mood.threshold: Input should be less than or equal to 1 (it is 7)"),
        (lambda c: facet(c).update(labels=[]), "mood.labels: the list is empty; give at least one label"),
        (lambda c: facet(c).update(labels=["a", True]), "mood.labels: True is not text; quote it"),
        (lambda c: facet(c).update(labels=["a", "a"]), "label 'a' stands twice"),
        (lambda c: facet(c).update(labels=["a", " "]), "a label is empty"),
        (lambda c: facet(c).update(labels=3), "mood.labels: give a list of names"),
        (lambda c: facet(c).update(labels=["only"]), "a 'single' facet needs at least two labels"),
        (lambda c: c["label_sets"].clear(), "label_sets: Dictionary should have at least 1 item"),
        (lambda c: c.pop("label_sets"), "label_sets: is missing; put label sets here, or name their file in label_s"),
        (lambda c: c["streams"][0].update(label_set="ticket"), "lacks (did you mean 'tickets'?)"),
        (lambda c: c["streams"].append(c["streams"][0]), "streams: topic 'in' stands twice; one stream per topic"),
        (lambda c: c["streams"][0].pop("topic"), "streams.0.topic: is missing"),
        (lambda c: c["streams"][0].update(topic="a b"), "not a legal Kafka topic name"),
        (lambda c: c["streams"][0].update(text=["body"]), "'body' is no JSON pointer; it begins with '/', e.g. /body"),
        (lambda c: c["streams"][0].update(output="in"), "which is an input topic: a loop"),
        (lambda c: c.pop("streams"), "streams: is missing"),
        (lambda c: c["label_sets"]["tickets"]["routes"][0]["when"].update(facet="topics"), "(did you mean 'topic'?)"),
        (lambda c: c["label_sets"]["tickets"]["routes"][0]["when"].update(label="biling"), "(did you mean 'billing'?)"),
        (lambda c: when(c).pop("label"), "routes.0.when: give either 'label' or 'abstained: true'"),
        (lambda c: when(c).update(abstained=True), "routes.0.when: give either 'label' or 'abstained: true'"),
        (
            lambda c: (when(c).update(abstained=True), when(c).pop("label")),
            "routes.0.when: 'score' is a label's least score; leave it out beside 'abstained: true'",
        ),
        (lambda c: shadow(c, "other"), "shadow.streams: no stream reads 'other'"),
        (lambda c: shadow(c, "in", label_set="ticket"), "lacks (did you mean 'tickets'?)"),
        (lambda c: shadow(c, "in", topic="tickets.billing"), "topic 'tickets.billing' has another use"),
        (lambda c: shadow(c, "in", topic="in"), "topic 'in' has another use"),
        (lambda c: shadow(c, "in", share=0), "shadow.streams.in.share: "),
        (
            lambda c: c["label_sets"]["tickets"].update(examples=[{"text": "x", "labels": ["goood"]}]),
            "an example names the label 'goood', which no facet has (did you mean 'good'?)",
        ),
        (lambda c: c.update(batching={"max_records": 0}), "batching.max_records: must be at least 1"),
        (lambda c: c.update(model={"dtype": "int8"}), "model.dtype: Input should be 'auto'"),
        (
            lambda c: (c.update(delivery="exactly_once"), c["kafka"].update(bootstrap_servers="embedded")),
            "exactly_once needs real transactions, which the embedded broker lacks",
        ),
    ],
)
def test_wrong_settings_are_one_line(change: Callable[[dict[str, Any]], object], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_settings(changed(change), origin="streamer.yaml")
    line = str(caught.value)
    assert line.startswith("streamer.yaml: ")
    assert says in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"kafka: [", "x.yaml:1:9: not YAML"),
        (b"- a", "a mapping with label_sets and streams is needed"),
        (b"", "a mapping with label_sets and streams is needed"),
        (b"\xff\xfe\xff", "not UTF-8 text"),
        (b"1: 2", "1: keys are text"),
        (b"a: 2024-13-45", "not YAML"),
        (b"a: \x00", "not YAML"),
        (b"[" * 5000, "nested too deeply"),
    ],
)
def test_wrong_files_are_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says) as caught:
        load_settings(path)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_settings(tmp_path / "none.yaml")


def test_secrets_are_read_from_files_and_environment_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    monkeypatch.setenv("MY_USER", "alice")
    properties = {"sasl.password": {"file": str(tmp_path / "password")}, "sasl.username": {"env": "MY_USER"}}
    settings = build_settings(changed(lambda c: c["kafka"].update(properties=properties)), origin="x")
    assert settings.kafka.client_properties() == {"sasl.password": "s3cret", "sasl.username": "alice"}
    assert "s3cret" not in repr(settings)
    monkeypatch.delenv("MY_USER")
    with pytest.raises(UsageError, match="MY_USER is not set"):
        settings.kafka.client_properties()


def test_a_wrong_secret_is_not_repeated() -> None:
    for wrong in (["s3cret"], {"file": "a", "env": "b"}, {"path": "s3cret"}):
        with pytest.raises(UsageError) as caught:
            build_settings(changed(lambda c, w=wrong: c["kafka"].update(properties={"sasl.password": w})), origin="x")  # type: ignore[misc]
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("given", [-1, 65537, "64mb"])
def test_the_score_cache_is_bounded_and_can_be_off(given: object) -> None:
    assert build_model_settings({}).cache_memory_mb == 64
    assert build_model_settings({"cache_memory_mb": 0}).cache_memory_mb == 0
    with pytest.raises(UsageError, match=r"^model: cache_memory_mb: "):
        build_model_settings({"cache_memory_mb": given})


def test_model_settings_of_the_command_line() -> None:
    assert build_model_settings({"name": "bundled"}).device == "auto"
    with pytest.raises(UsageError, match="model: dtype"):
        build_model_settings({"dtype": "half"})


def test_a_settings_file_survives_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    assert load_settings(path) == build_settings(GOOD, origin="x")
    assert isinstance(load_settings(path), Settings)


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    """A settings file whose label sets stand in labels.yaml beside it."""
    content = {**changed(lambda c: c.pop("label_sets")), "label_sets_file": "labels.yaml"}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump(GOOD["label_sets"]))
    return tmp_path / "s.yaml"


def test_label_sets_may_stand_in_a_file_of_their_own(
    two_files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))  # the name is relative to the settings file
    expected = build_settings(GOOD, origin="x").build_label_sets()
    assert load_settings(two_files).build_label_sets() == expected
    two_files.with_name("s.yaml").write_text(
        yaml.safe_dump(
            {**yaml.safe_load(two_files.read_text()), "label_sets_file": str(two_files.parent / "labels.yaml")}
        )
    )
    assert load_settings(two_files).build_label_sets() == expected


def test_the_environment_overrides_the_label_set_file_too(
    two_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMER_LABEL_SETS__TICKETS__FACETS__MOOD__MIN_SCORE", "0.75")
    (mood, _) = load_settings(two_files).build_label_sets()["tickets"].facets
    assert mood.min_score == 0.75
    (tmp_path / "labels.yaml").rename(tmp_path / "others.yaml")
    monkeypatch.setenv("STREAMER_LABEL_SETS_FILE", "others.yaml")
    assert load_settings(two_files).label_sets_file == Path("others.yaml")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (b"tickets: [", r"labels.yaml:1:11: not YAML"),
        (b"", r"labels.yaml: a mapping of label sets is needed"),
        (b"{}", r"labels.yaml: Dictionary should have at least 1 item"),
        (b"\xff", r"labels.yaml: not UTF-8 text"),
        (b"1: 2", r"labels.yaml: 1: keys are text"),
        (b"tickets: {facets: {mood: {labels: []}}}", r"labels.yaml: tickets.facets.mood.labels: the list is empty"),
        (b"tickets: {facet: {}}", r"labels.yaml: tickets.facets: is missing \(and 1 more\)"),
        (b"posts: {facets: {mood: {labels: [a, b]}}}", r"s.yaml: streams: 'in' names the label set 'tickets', which"),
        (None, r"labels.yaml: No such file or directory; label_sets_file of \S+s.yaml names it"),
    ],
)
def test_errors_name_the_file_they_are_in(two_files: Path, labels: bytes | None, says: str) -> None:
    path = two_files.with_name("labels.yaml")
    path.unlink() if labels is None else path.write_bytes(labels)
    with pytest.raises(UsageError, match=says) as caught:
        load_settings(two_files)
    assert "\n" not in str(caught.value)


def test_label_sets_stand_in_one_place(two_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_LABEL_SETS_FILE", "labels.yaml")
    two_files.write_text(yaml.safe_dump(GOOD))
    with pytest.raises(UsageError, match="label_sets stand here, and in the file that STREAMER_LABEL_SETS_FILE names"):
        load_settings(two_files)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("STREAMER_MODEL__DTYPE", "half", "STREAMER_MODEL__DTYPE: model.dtype: Input should be 'auto'"),
        ("STREAMER_HTTP__PRT", "1", "STREAMER_HTTP__PRT: http.prt: unknown key (did you mean 'port'?)"),
        ("streamer_log__level", "loud", "streamer_log__level: log.level: Input should be"),
        ("STREAMER_STREAMS", '[{"topic": "a b"}]', "STREAMER_STREAMS: streams.0.topic: not a legal Kafka topic name"),
        ("STREAMER_STREAMS", '[{"topic": "a"}]', "STREAMER_STREAMS: streams.0.output: is missing"),
        ("STREAMER_STREAMS", "secret", "STREAMER_STREAMS: not JSON"),
        ("STREAMER_KAFKA__PROPERTIES", "secret", "STREAMER_KAFKA__PROPERTIES: not JSON"),
        ("STREAMER_LABEL_SETS__TICKETS__FACETS__MOOD__THRESHOLD", "7", "MOOD__THRESHOLD: label_sets.tickets.facets.mo"),
        ("STREAMER_KAFKA__BOOTSTRAP_SERVERS", "embedded", "(with STREAMER_KAFKA__BOOTSTRAP_SERVERS): delivery: exactl"),
        ("STREAMER_PORT", "tcp://10.0.0.1:80", None),  # Kubernetes sets such for a service of this name
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str | None
) -> None:
    monkeypatch.setenv(variable, value)
    content = changed(lambda c: c.update(delivery="exactly_once"))
    if says is None:
        assert build_settings(content, origin="s.yaml").http.port == 9464
        return
    with pytest.raises(UsageError) as caught:
        build_settings(content, origin="s.yaml")
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_wrong_file_is_not_blamed_on_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_MODEL__NAME", "fake")
    with pytest.raises(UsageError, match=r"^s\.yaml: model\.dtype: "):
        build_settings(changed(lambda c: c.update(model={"dtype": "half"})), origin="s.yaml")
