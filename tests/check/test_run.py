"""What a check finds in settings, model and port, and how it is shown."""

from __future__ import annotations

import io
import socket
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from streamer.app import Connection
from streamer.check.findings import Finding, Level, error, ok, told_by, warning
from streamer.check.run import Report, check_settings, sample_texts, show_report
from streamer.engine.fake import FakeClassifier
from streamer.settings import Settings, build_settings

SECRET = "hunter2-and-more"  # noqa: S105 - must not be shown


def settings(label_sets: dict[str, Any] | None = None, **changed: Any) -> Settings:
    content: dict[str, Any] = {
        "model": {"name": "fake"},
        "http": {"port": 0},
        "label_sets": label_sets or {"tickets": {"facets": {"mood": {"labels": ["good", "bad"]}}}},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "tickets"}],
        **changed,
    }
    return build_settings(content, origin="test")


def found(report: Report, level: Level) -> list[tuple[str, str]]:
    return [(finding.where, finding.what) for finding in report.findings if finding.level is level]


def only(report: Report, level: Level) -> Finding:
    (finding,) = [finding for finding in report.findings if finding.level is level]
    return finding


class Clock:
    """Each look at it is `step_s` after the last one."""

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def test_settings_without_fault_are_in_order() -> None:
    one = settings()
    report = check_settings(one, connection=None)
    assert (report.errors, report.warnings) == (0, 0)
    seen = dict(found(report, Level.OK))
    version = one.build_label_sets()["tickets"].version
    assert report.findings[0] == ok("label_sets.tickets", f"2 labels: mood (2); version {version}")
    assert seen["model"] == "fake, revision none, float32 on cpu, window of 512 tokens"
    assert seen["http.port"] == "any free port"
    assert seen["limits.drain_timeout_s"] == "30 s to finish work in a rebalance; the group waits 300 s"


@pytest.mark.parametrize(
    ("facet", "what"),
    [
        ({"labels": ["Log in", "LOG-IN", "x"]}, "'Log in' and 'LOG-IN' differ only in case, blanks or punctuation"),
        ({"labels": ["Straße", "strasse"]}, "differ only in case"),
        ({"labels": {"a": "word " * 24, "b": None}}, "reads 25 words for label 'a', and may cut them"),
        ({"labels": [f"label {i}" for i in range(51)]}, "51 labels compete for each record"),
    ],
)
def test_doubtful_labels_are_warned_of(facet: dict[str, Any], what: str) -> None:
    report = check_settings(settings({"tickets": {"facets": {"mood": facet}}}), connection=None)
    finding = only(report, Level.WARNING)
    assert what in finding.what
    assert finding.where == "label_sets.tickets.facets.mood"
    assert finding.advice
    assert report.errors == 0


@pytest.mark.parametrize(
    "facet",
    [
        {"labels": ["👍", "👎", "!", "?"]},
        {"labels": {"a": "word " * 23, "b": None}},
        {"kind": "multi", "labels": [f"label {i}" for i in range(51)]},
    ],
)
def test_labels_that_are_fine_are_not_warned_of(facet: dict[str, Any]) -> None:
    assert check_settings(settings({"tickets": {"facets": {"mood": facet}}}), connection=None).warnings == 0


def test_a_label_set_that_no_stream_uses_is_warned_of() -> None:
    facets = {"facets": {"f": {"labels": ["a", "b"]}}}
    report = check_settings(settings({"tickets": facets, "other": facets}), connection=None)
    assert found(report, Level.WARNING) == [("label_sets.other", "no stream uses it")]


def test_a_route_that_can_never_win_is_warned_of() -> None:
    routes = [{"when": {"facet": "mood", "label": "bad"}, "to": to} for to in ("first", "second")]
    facets = {"mood": {"labels": ["good", "bad"]}}
    report = check_settings(settings({"tickets": {"facets": facets, "routes": routes}}), connection=None)
    assert only(report, Level.WARNING).where == "label_sets.tickets.routes.1"


def test_a_model_that_cannot_be_had_is_an_error_and_the_rest_is_still_looked_at() -> None:
    report = check_settings(settings(model={"name": "bundled", "service_time_ms": 1}), connection=None)
    assert only(report, Level.ERROR) == error(
        "model", "model.service_time_ms is for the model 'fake' only", "remove it"
    )
    assert "http.port" in dict(found(report, Level.OK))


def test_the_speed_is_told_per_label_set() -> None:
    label_sets = {name: {"facets": {"f": {"labels": ["a", "b"]}}} for name in ("tickets", "posts")}
    streams = [{"topic": n, "output": "out", "dead_letter": "dead", "label_set": n} for n in label_sets]
    slow = check_settings(settings(label_sets, streams=streams), connection=None, clock=Clock(2.0))
    for name in label_sets:
        where = f"label_sets.{name}"
        assert (where, "warm; about 16 records/s of tickets and posts on cpu") in found(slow, Level.OK)


def test_a_quick_model_is_measured_on_a_whole_window() -> None:
    report = check_settings(settings(batching={"max_records": 500}), connection=None, clock=Clock(0.25))
    assert ("label_sets.tickets", "warm; about 2,000 records/s of tickets and posts on cpu") in found(report, Level.OK)


def test_a_window_that_outlasts_the_drain_time_is_warned_of() -> None:
    report = check_settings(settings(batching={"max_records": 320}), connection=None, clock=Clock(2.0))
    finding = only(report, Level.WARNING)
    assert "take about 40 s, limits.drain_timeout_s gives them 30 s" in finding.what
    assert "batching.max_records" in finding.advice


def test_a_label_set_that_the_model_refuses_is_an_error_and_the_others_are_measured(tiny_bundled: Path) -> None:
    facets = {"f": {"labels": ["a", "b"]}}
    label_sets = {"tickets": {"facets": facets, "prompt": "Sort the mail"}, "posts": {"facets": facets}}
    streams = [{"topic": n, "output": "out", "dead_letter": "dead", "label_set": n} for n in label_sets]
    model = {"name": str(tiny_bundled), "device": "cpu", "dtype": "float32"}
    report = check_settings(
        settings(label_sets, streams=streams, model=model, batching={"max_records": 32}), connection=None
    )
    finding = only(report, Level.ERROR)
    assert finding.where == "label_sets.tickets"
    assert "prompt" in finding.what
    assert "float32 on cpu" in dict(found(report, Level.OK))["model"]
    assert "warm; about" in dict(found(report, Level.OK))["label_sets.posts"]


def test_a_sample_that_the_device_cannot_hold_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = FakeClassifier(
        window_tokens=512, max_tokens=10_000, window_s=0, record_s=0, out_of_memory=sample_texts()[:1]
    )
    monkeypatch.setattr("streamer.check.run.build_classifier", lambda model, max_tokens: classifier)
    finding = only(check_settings(settings(), connection=None), Level.ERROR)
    assert "the sample could not be scored: the model ran out of memory" in finding.what
    assert finding.advice == "lower batching.max_tokens"


@pytest.mark.kafka
def test_with_a_connection_the_cluster_is_looked_at_too(kafka_bootstrap: str, unique: str) -> None:
    streams = [{"topic": unique, "output": "out", "dead_letter": "dead", "label_set": "tickets"}]
    report = check_settings(settings(streams=streams), connection=Connection(kafka_bootstrap, {}, embedded=False))
    assert f"topic '{unique}'" in dict(found(report, Level.ERROR))


def test_the_sample_is_32_texts_of_the_project() -> None:
    texts = sample_texts()
    assert len(texts) == len(set(texts)) == 32
    assert all(text.strip() for text in texts)


def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        finding = only(check_settings(settings(http={"port": port}), connection=None), Level.ERROR)
    assert finding.where == "http.port"
    assert f"cannot listen on 127.0.0.1:{port}" in finding.what
    free = check_settings(settings(http={"port": port}), connection=None)
    assert ("http.port", f"127.0.0.1:{port} is free") in found(free, Level.OK)


def test_a_host_that_is_not_ours_is_an_error_unless_http_is_off() -> None:
    http = {"host": "host.invalid", "port": 9464}
    assert only(check_settings(settings(http=http), connection=None), Level.ERROR).where == "http.port"
    assert check_settings(settings(http={**http, "enabled": False}), connection=None).errors == 0


def shown(report: Report) -> str:
    file = io.StringIO()
    show_report(Console(file=file, width=160), report)
    return file.getvalue()


def test_a_report_shows_what_where_and_what_to_do() -> None:
    seen = shown(Report((ok("a", "fine"), warning("b", "odd [red]", "look"), error("c", "wrong", "mend"))))
    for part in ("✓ ok", "! warning", "✗ error", "odd [red]", "look", "mend", "1 errors, 1 warnings"):
        assert part in seen
    assert "Everything is in order." in shown(Report((ok("a", "fine"),)))


def test_an_error_line_is_split_into_finding_and_advice() -> None:
    assert told_by("x", ValueError("it is\nwrong; do this; or that")) == error("x", "it is wrong", "do this; or that")


def test_secrets_are_not_shown() -> None:
    properties = {"sasl.password": SECRET, "session.timeout.ms": 400_000}
    report = check_settings(settings(kafka={"properties": properties}), connection=None)
    assert report.errors
    assert SECRET not in shown(report)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ({}, "texts hidden, no token needed"),
        ({"show_text": True, "token": {"env": "PAGE_TOKEN"}}, "texts shown, a token needed"),
        ({"enabled": False}, "switched off"),
    ],
)
def test_the_page_says_what_it_shows(page: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGE_TOKEN", SECRET)
    assert ("page", said) in found(check_settings(settings(page=page), connection=None), Level.OK)


def test_a_token_of_the_page_that_cannot_be_had_is_an_error() -> None:
    report = check_settings(settings(page={"token": {"env": "PAGE_TOKEN_THAT_IS_NOT_SET"}}), connection=None)
    finding = only(report, Level.ERROR)
    assert finding == error(
        "page.token", "environment variable PAGE_TOKEN_THAT_IS_NOT_SET is not set", "page.token refers to it"
    )
