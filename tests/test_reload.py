"""Files that change while the loop runs: what is taken up, what is refused, and what is waited for."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from streamer.engine.fake import FakeClassifier
from streamer.errors import TransientError, UsageError
from streamer.facets import LabelSet
from streamer.records import Document, Scores
from streamer.reload import LONGEST_RETRY_S, Reloader, reloading
from streamer.settings import Settings, load_settings
from tests.calibrated import calibration_of

LABELS: dict[str, Any] = {"tickets": {"facets": {"mood": {"labels": ["bad", "good"]}}}}
REST: dict[str, Any] = {
    "kafka": {"bootstrap_servers": "broker:9092", "properties": {"sasl.password": "s3cret"}},
    "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "tickets"}],
}


def labels(*names: str, **more: Any) -> dict[str, Any]:
    return {"tickets": {"facets": {"mood": {"labels": list(names)}}, **more}}


class Desk:
    """A Reloader on files in a directory, with a broker and a model that are asked and can refuse."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "s.yaml"
        self.labels = directory / "labels.yaml"
        self.now_s = 0.0
        self.refuses_topics: Exception | None = None
        self.refuses_model: Exception | None = None
        self.topics: list[Settings] = []
        self.warmed: list[Sequence[LabelSet]] = []
        self.failures: list[str] = []

    def write(self, rest: Mapping[str, Any], label_sets: Mapping[str, Any] | None = None) -> None:
        """Settings in two files, or, with `label_sets` inside `rest`, in one."""
        if label_sets is None:
            self.path.write_text(yaml.safe_dump(dict(rest)))
        else:
            self.path.write_text(yaml.safe_dump({**rest, "label_sets_file": "labels.yaml"}))
            self.labels.write_text(yaml.safe_dump(dict(label_sets)))

    def open(self) -> Reloader:
        settings = load_settings(self.path)
        return Reloader(
            path=self.path,
            settings=settings,
            label_sets=settings.build_label_sets(),
            interval_s=2.0,
            take_up_topics=self._take_up_topics,
            warm_up=self._warm_up,
            failed=self.failures.append,
            clock=lambda: self.now_s,
        )

    def _take_up_topics(self, settings: Settings) -> None:
        self.topics.append(settings)
        if self.refuses_topics is not None:
            raise self.refuses_topics

    def _warm_up(self, label_sets: Sequence[LabelSet]) -> None:
        self.warmed.append(label_sets)
        if self.refuses_model is not None:
            raise self.refuses_model

    def look(self, reloader: Reloader, times: int = 2) -> Mapping[str, LabelSet] | None:
        for _ in range(times):
            self.now_s += 2.0
            reloader.look()
        return reloader.take()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.write(REST, LABELS)
    return desk


def names(label_sets: Mapping[str, LabelSet] | None) -> list[str]:
    assert label_sets is not None
    return [label.name for label in label_sets["tickets"].labels]


def test_files_that_stay_are_left_alone(desk: Desk) -> None:
    reloader = desk.open()
    assert desk.look(reloader, 5) is None
    assert (desk.topics, desk.warmed, desk.failures) == ([], [], [])


def test_a_change_is_checked_warmed_and_offered_once(desk: Desk) -> None:
    reloader = desk.open()
    desk.look(reloader)
    desk.write(REST, labels("bad", "good", "mixed"))
    taken = desk.look(reloader)
    assert names(taken) == ["bad", "good", "mixed"]
    assert desk.warmed == [list((taken or {}).values())]
    assert [settings.build_label_sets() for settings in desk.topics] == [taken]
    assert desk.look(reloader, 5) is None
    assert len(desk.warmed) == 1
    desk.write(REST, LABELS)
    assert names(desk.look(reloader)) == ["bad", "good"]
    assert desk.failures == []


def test_label_sets_inside_the_settings_file_are_taken_up_too(desk: Desk) -> None:
    desk.write({**REST, "label_sets": LABELS})
    reloader = desk.open()
    desk.write({**REST, "label_sets": labels("a", "b")})
    assert names(desk.look(reloader)) == ["a", "b"]


@pytest.mark.parametrize(
    "change",
    [
        {"routes": [{"when": {"facet": "mood", "label": "bad", "score": 0.9}, "to": "angry"}]},
        {"facets": {"mood": {"labels": ["bad", "good"], "min_margin": 0.2}}},
        {"facets": {"mood": {"labels": {"bad": "complains", "good": None}}}},
    ],
)
def test_whatever_decides_labels_counts(desk: Desk, change: dict[str, Any]) -> None:
    reloader = desk.open()
    before = load_settings(desk.path).build_label_sets()["tickets"].version
    desk.write(REST, {"tickets": {**LABELS["tickets"], **change}})
    taken = desk.look(reloader)
    assert taken is not None
    assert taken["tickets"].version != before


def test_a_change_before_the_first_look_is_not_missed(desk: Desk) -> None:
    reloader = desk.open()
    desk.write(REST, labels("a", "b"))
    assert names(desk.look(reloader)) == ["a", "b"]


def test_another_wording_of_the_same_is_no_reload(desk: Desk) -> None:
    reloader = desk.open()
    desk.labels.write_text("# a comment\n" + desk.labels.read_text())
    with capture_logs() as lines:
        assert desk.look(reloader) is None
    assert (desk.warmed, desk.topics, desk.failures) == ([], [], [])
    assert [line["log_level"] for line in lines] == ["debug"]


def test_the_last_of_several_changes_is_offered(desk: Desk) -> None:
    reloader = desk.open()
    for name in ("a", "b", "c"):
        desk.write(REST, labels(name, "good"))
        for _ in range(2):
            reloader.look()
    assert names(reloader.take()) == ["c", "good"]
    assert reloader.take() is None


def calibrate(desk: Desk, file: str, **limits: Any) -> str:
    """Write a calibration for the label set as it stands; its version."""
    label_set = load_settings(desk.path, calibrated=False).build_label_sets()["tickets"]
    written = calibration_of(label_set, **limits)
    (desk.path.parent / file).write_bytes(written.to_json())
    return written.version


def stamp(label_sets: Mapping[str, LabelSet] | None) -> str | None:
    assert label_sets is not None
    calibration = label_sets["tickets"].calibration
    return None if calibration is None else calibration.version


def test_a_calibration_that_is_named_is_taken_up_and_watched(desk: Desk) -> None:
    reloader = desk.open()
    desk.look(reloader)
    first = calibrate(desk, "c.json")
    desk.write(REST, labels("bad", "good", calibration="c.json"))
    assert desk.look(reloader) is None  # it was seen once only
    assert stamp(desk.look(reloader)) == first
    assert desk.look(reloader, 5) is None
    second = calibrate(desk, "c.json", slope=0.7)
    assert stamp(desk.look(reloader)) == second
    assert second != first
    desk.write(REST, labels("bad", "good"))
    assert stamp(desk.look(reloader)) is None
    assert desk.failures == []


def test_a_calibration_named_from_the_start_is_watched(desk: Desk) -> None:
    calibrate(desk, "c.json")
    desk.write(REST, labels("bad", "good", calibration="c.json"))
    reloader = desk.open()
    assert desk.look(reloader) is None
    version = calibrate(desk, "c.json", slope=0.7)
    assert stamp(desk.look(reloader)) == version


def test_a_missing_calibration_is_told_once_and_waited_for(desk: Desk) -> None:
    reloader = desk.open()
    desk.look(reloader)
    desk.write(REST, labels("bad", "good", calibration="c.json"))
    assert desk.look(reloader, 6) is None
    (failure,) = desk.failures
    assert "c.json: No such file or directory" in failure
    version = calibrate(desk, "c.json")
    assert stamp(desk.look(reloader)) == version
    assert len(desk.failures) == 1


def test_new_labels_wait_for_their_calibration(desk: Desk) -> None:
    calibrate(desk, "c.json")
    desk.write(REST, labels("bad", "good", calibration="c.json"))
    reloader = desk.open()
    desk.look(reloader)
    desk.write(REST, labels("bad", "good", "mixed", calibration="c.json"))
    assert desk.look(reloader) is None
    assert "was fitted for other labels of facet 'mood'" in desk.failures[0]
    version = calibrate(desk, "c.json")
    taken = desk.look(reloader)
    assert (stamp(taken), names(taken)) == (version, ["bad", "good", "mixed"])


def test_a_swapped_link_is_seen_as_kubernetes_makes_it(tmp_path: Path) -> None:
    """A mounted ConfigMap: files link to ..data/FILE, and ..data is a link that is renamed over."""

    def publish(version: str, label_sets: Mapping[str, Any]) -> None:
        data = tmp_path / f"..{version}"
        data.mkdir()
        (data / "labels.yaml").write_text(yaml.safe_dump(dict(label_sets)))
        (data / "s.yaml").write_text(yaml.safe_dump({**REST, "label_sets_file": "labels.yaml"}))
        (tmp_path / "..data_tmp").symlink_to(data.name)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")

    publish("2024_01", LABELS)
    for name in ("s.yaml", "labels.yaml"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    desk = Desk(tmp_path)
    reloader = desk.open()
    desk.look(reloader)
    publish("2024_02", labels("a", "b"))
    assert names(desk.look(reloader)) == ["a", "b"]
    publish("2024_03", labels("a", "b"))
    assert desk.look(reloader) is None
    assert (len(desk.warmed), desk.failures) == (1, [])


@pytest.mark.parametrize(
    "half", [b"tickets: {facets: {mood: {la", b"", b"tickets: {facets: {mood: {labels: [bad, x]}}}"]
)
def test_half_a_file_is_waited_for(desk: Desk, half: bytes) -> None:
    """Also one that looks whole: it is not the same at the next look."""
    reloader = desk.open()
    desk.look(reloader)
    desk.labels.write_bytes(half)
    assert desk.look(reloader, 1) is None
    desk.write(REST, labels("a", "b"))
    assert desk.look(reloader, 1) is None
    assert names(desk.look(reloader, 1)) == ["a", "b"]
    assert desk.failures == []


def test_a_file_may_be_missing_for_a_moment(desk: Desk) -> None:
    reloader = desk.open()
    desk.look(reloader)
    for path in (desk.labels, desk.path):
        path.rename(path.with_suffix(".away"))
        assert desk.look(reloader, 1) is None
        path.with_suffix(".away").rename(path)
        assert desk.look(reloader) is None
    assert (desk.warmed, desk.failures) == ([], [])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"tickets: [", "labels.yaml:1:11: not YAML"),
        (b"tickets: {facets: {mood: {labels: []}}}", "labels.yaml: tickets.facets.mood.labels: the list is empty"),
        (b"posts: {facets: {mood: {labels: [a, b]}}}", "'in' names the label set 'tickets', which label_sets lacks"),
        (
            yaml.safe_dump(labels("a", "b", routes=[{"when": {"facet": "mood", "label": "a"}, "to": "in"}])).encode(),
            "which is an input topic: a loop",
        ),
        (None, "labels.yaml: No such file or directory"),
    ],
)
def test_a_bad_file_keeps_the_last_good_one_and_is_told_once(desk: Desk, content: bytes | None, says: str) -> None:
    reloader = desk.open()
    desk.look(reloader)
    if content is None:
        desk.labels.unlink()
    else:
        desk.labels.write_bytes(content)
    assert desk.look(reloader, 50) is None
    (reason,) = desk.failures
    assert says in reason
    assert desk.warmed == []
    desk.write(REST, labels("a", "b"))
    assert names(desk.look(reloader)) == ["a", "b"]


def test_going_back_to_what_is_in_use_mends_a_refusal(desk: Desk) -> None:
    reloader = desk.open()
    desk.look(reloader)
    desk.labels.write_bytes(b"tickets: [")
    assert desk.look(reloader) is None
    desk.write(REST, LABELS)
    assert names(desk.look(reloader)) == names(load_settings(desk.path).build_label_sets())
    assert desk.look(reloader, 5) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["kafka"].update(group_id="other"), "restart needed: kafka.group_id changed"),
        (lambda c: c["kafka"]["properties"].update({"sasl.password": "n3w"}), "kafka.properties.sasl.password changed"),
        (lambda c: c["streams"][0].update(output="elsewhere"), "restart needed: streams.0.output changed"),
        (lambda c: c["streams"].append({**c["streams"][0], "topic": "in2"}), "restart needed: streams changed"),
        (lambda c: c.update(http={"port": 1}, log={"level": "debug"}), "restart needed: http.port, log.level changed"),
        (
            lambda c: c.update(
                limits={"commit_interval_ms": 1, "drain_timeout_s": 1},
                batching={"max_bytes": 1},
                delivery="exactly_once",
            ),
            "restart needed: batching.max_bytes, delivery, limits.commit_interval_ms and 1 more changed",
        ),
        (lambda c: c.update(reload={"interval_s": 9}), "restart needed: reload.interval_s changed"),
    ],
)  # fmt: skip
def test_any_other_key_needs_a_restart_and_label_sets_wait_for_it(
    desk: Desk, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    reloader = desk.open()
    desk.look(reloader)
    content = copy.deepcopy(REST)
    change(content)
    desk.write(content, labels("a", "b"))
    assert desk.look(reloader, 10) is None
    (reason,) = desk.failures
    assert reason == f"{desk.path}: {says}" or reason.endswith(f" {says}")
    assert "s3cret" not in reason
    assert "n3w" not in reason
    assert (desk.topics, desk.warmed) == ([], [])
    desk.write(REST, labels("a", "b"))
    assert names(desk.look(reloader)) == ["a", "b"]


def test_label_sets_do_not_move_to_another_file(desk: Desk) -> None:
    reloader = desk.open()
    desk.labels.with_name("new.yaml").write_text(yaml.safe_dump(labels("a", "b")))
    desk.path.write_text(yaml.safe_dump({**REST, "label_sets_file": "new.yaml"}))
    assert desk.look(reloader) is None
    assert desk.failures == [f"{desk.path}: restart needed: label_sets_file changed"]


def test_the_environment_counts_as_it_did_at_the_start(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_KAFKA__GROUP_ID", "fixed")
    reloader = desk.open()
    content = copy.deepcopy(REST)
    content["kafka"]["group_id"] = "other"  # the variable has the last word
    desk.write(content, labels("a", "b"))
    assert names(desk.look(reloader)) == ["a", "b"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (UsageError("the broker lacks 'angry' (route of 'in')"), "the broker lacks 'angry' (route of 'in')"),
        (TransientError("no answer"), "no answer"),
        (RuntimeError("what is this"), "RuntimeError: what is this"),
    ],
)
@pytest.mark.parametrize("where", ["refuses_topics", "refuses_model"])
def test_what_may_pass_is_tried_again_and_told_once(desk: Desk, where: str, error: Exception, says: str) -> None:
    reloader = desk.open()
    desk.look(reloader)
    setattr(desk, where, error)
    desk.write(REST, labels("a", "b"))
    assert desk.look(reloader, 100) is None
    assert desk.failures == [says]
    tries = len(desk.topics)
    assert 5 < tries < 15  # every 2, 4, 8 ... seconds
    assert len(desk.warmed) == (0 if where == "refuses_topics" else tries)
    setattr(desk, where, None)
    assert names(desk.look(reloader, int(LONGEST_RETRY_S))) == ["a", "b"]
    assert desk.failures == [says]


def test_other_files_are_not_kept_waiting(desk: Desk) -> None:
    reloader = desk.open()
    desk.refuses_model = UsageError("too many labels")
    desk.write(REST, labels("a", "b"))
    desk.look(reloader, 100)
    desk.refuses_model = None
    desk.write(REST, labels("c", "d"))
    assert names(desk.look(reloader)) == ["c", "d"]
    assert desk.failures == ["too many labels"]


def test_another_reason_for_the_same_files_is_told(desk: Desk) -> None:
    reloader = desk.open()
    desk.write(REST, labels("a", "b"))
    for reason in ("one", "other"):
        desk.refuses_topics = UsageError(reason)
        desk.look(reloader, 100)
    assert desk.failures == ["one", "other"]


def wait_for(take: Callable[[], Mapping[str, LabelSet] | None]) -> Mapping[str, LabelSet]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (taken := take()) is not None:
            return taken
        time.sleep(0.01)
    pytest.fail("nothing was offered")


def test_the_thread_serves_a_loop_with_a_real_engine(desk: Desk) -> None:
    """The engine scores windows on while label sets are warmed, one of them one that it cannot serve."""
    desk.write({**REST, "reload": {"interval_s": 0.1}}, LABELS)
    settings = load_settings(desk.path)
    label_set = settings.build_label_sets()["tickets"]
    classifier = FakeClassifier(window_tokens=64, max_tokens=1000, window_s=0.001, record_s=0.0)
    classifier.warm_up([label_set])
    threads: set[str] = set()

    def failed(reason: str) -> None:
        threads.add(threading.current_thread().name)
        desk.failures.append(reason)

    with reloading(
        settings,
        path=desk.path,
        label_sets=settings.build_label_sets(),
        take_up_topics=lambda _: None,
        warm_up=classifier.warm_up,
        failed=failed,
    ) as take:
        desk.labels.write_text("tickets: [")
        until = time.monotonic() + 20
        while not desk.failures and time.monotonic() < until:
            result = classifier.submit([Document("text", label_set)]).wait(10)
            assert result is not None
            assert take() is None
        desk.labels.write_text(yaml.safe_dump(labels("a", "b", "c")))
        taken = wait_for(take)
        result = classifier.submit([Document("text", taken["tickets"]), Document("text", label_set)]).wait(10)
        assert result is not None
        assert [one.logits.size for one in result.scores if isinstance(one, Scores)] == [3, 2]
    assert threads == {"reload"}
    assert "reload" not in {thread.name for thread in threading.enumerate()}
    classifier.close()


@pytest.mark.parametrize("why", ["no path", "not a file", "switched off"])
def test_nothing_is_read_again_where_it_cannot_or_shall_not_be(desk: Desk, why: str) -> None:
    if why == "switched off":
        desk.write({**REST, "reload": {"enabled": False}}, LABELS)
    settings = load_settings(desk.path)
    before = threading.active_count()
    with reloading(
        settings,
        path={"no path": None, "not a file": Path(os.devnull), "switched off": desk.path}[why],
        label_sets=settings.build_label_sets(),
        take_up_topics=lambda _: None,
        warm_up=lambda _: None,
        failed=desk.failures.append,
    ) as take:
        assert threading.active_count() == before
        assert take() is None
