from __future__ import annotations

import io
import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias

import pytest
import structlog

from streamer.facets import LabelSet
from streamer.records import Envelope, Partition, Reject
from streamer.telemetry.logs import LogObserver, configure_logs, mask_secrets

MakeReject: TypeAlias = Callable[[str, int, str], Envelope[Reject]]


class Clock(Protocol):
    def __call__(self) -> float: ...

    def advance(self, seconds: float) -> None: ...


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where logs go; what a test configures is undone after it."""
    names = (None, "streamer", "transformers", "huggingface_hub")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.__class__, list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    yield io.StringIO()
    for logger, kind, handlers, level, propagate in before:
        logger.__class__ = kind
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_carry_level_time_and_values(stream: io.StringIO) -> None:
    configure_logs(level="info", form="json", stream=stream)
    log = structlog.get_logger()
    log.debug("too quiet")
    log.info("window", records=7, topics=("a", "b"))
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["records"], line["topics"]) == ("window", "info", 7, ["a", "b"])
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)


def test_the_level_holds(stream: io.StringIO) -> None:
    configure_logs(level="debug", form="json", stream=stream)
    structlog.get_logger().debug("heard")
    configure_logs(level="error", form="json", stream=stream)
    install_library_handlers()
    structlog.get_logger().warning("not heard")
    logging.getLogger("transformers").warning("not heard")
    logging.getLogger("somebody").warning("not heard either")
    assert [line["event"] for line in lines(stream)] == ["heard"]


def fail_with(text: str) -> None:
    local_text = f"{text} of a customer"
    raise ValueError(f"connect failed, sasl.password={text}, {len(local_text)} characters")


def test_an_exception_is_one_field_without_local_variables(stream: io.StringIO) -> None:
    configure_logs(level="info", form="json", stream=stream)
    try:
        fail_with("hunter2")
    except ValueError:
        structlog.get_logger().exception("stopped by an error")
    (line,) = lines(stream)
    (exception,) = line["exception"]
    assert exception["exc_type"] == "ValueError"
    assert exception["exc_value"] == "connect failed, sasl.password=***, 21 characters"
    assert exception["frames"][-1]["name"] == "fail_with"
    assert "of a customer" not in stream.getvalue()
    assert "hunter2" not in exception["exc_value"]


def test_console_lines_are_for_people(stream: io.StringIO) -> None:
    configure_logs(level="info", form="console", stream=stream)
    log = structlog.get_logger()
    log.info("connected", properties={"sasl.password": "hunter2"})
    try:
        fail_with("hunter2")
    except ValueError:
        log.exception("stopped by an error")
    text = stream.getvalue()
    assert "connected" in text
    assert "ValueError: connect failed, sasl.password=***" in text
    assert "of a customer" not in text
    assert "\x1b[" not in text  # colours are for terminals


def test_secrets_are_masked_at_any_depth(stream: io.StringIO) -> None:
    configure_logs(level="info", form="json", stream=stream)
    properties = {
        "bootstrap.servers": "broker:9092",
        "sasl.username": "svc",
        "sasl.password": "hunter2",
        "ssl.key.password": "hunter2",
        "ssl.key.pem": "-----BEGIN hunter2",
        "sasl.jaas.config": "PlainLoginModule required hunter2",
        "sasl.oauthbearer.client.secret": "hunter2",
        "nested": [{"HF_TOKEN": "hunter2", "api_key": "hunter2", "max_tokens": 512, "tokenizer": "bpe"}],
        "unset_password": None,
    }
    structlog.get_logger().info("settings", kafka=properties, password=1234)
    (line,) = lines(stream)
    assert "hunter2" not in stream.getvalue()
    kafka = line["kafka"]
    assert (kafka["bootstrap.servers"], kafka["sasl.username"]) == ("broker:9092", "svc")
    assert kafka["sasl.password"] == kafka["ssl.key.password"] == kafka["sasl.jaas.config"] == line["password"] == "***"
    assert kafka["unset_password"] is None
    assert kafka["nested"] == [{"HF_TOKEN": "***", "api_key": "***", "max_tokens": 512, "tokenizer": "bpe"}]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('Login required username="u" password="hunter 2";', 'Login required username="u" password=***;'),
        ("{'sasl.password': 'hunter2', 'a': 1}", "{'sasl.password': ***, 'a': 1}"),
        ("GET https://user:hunter2@registry/x?token=hunter2&y=1", "GET https://user:***@registry/x?token=***&y=1"),
        ("client_secret = hunter2, rest", "client_secret = ***, rest"),
        ("ssl.key.password: no such file", "ssl.key.password: no such file"),
        ("tokens=512 tokenise=3", "tokens=512 tokenise=3"),
    ],
)
def test_secrets_inside_texts_are_masked(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


def test_bytes_and_objects_are_not_spelled_out() -> None:
    class Settings:
        def __repr__(self) -> str:
            return "Settings(password='hunter2', port=1)"

    assert mask_secrets({"value": b"private words", "settings": Settings()}) == {
        "value": "<13 bytes>",
        "settings": "Settings(password=***, port=1)",
    }


def test_masking_a_long_text_is_quick() -> None:
    assert mask_secrets("a" * 1_000_000) == "a" * 1_000_000


def install_library_handlers() -> None:
    """What these libraries do when they are imported."""
    for name in ("transformers", "huggingface_hub"):
        library = logging.getLogger(name)
        library.addHandler(logging.StreamHandler())
        library.setLevel(logging.WARNING)
        library.propagate = False


@pytest.mark.parametrize("imported_first", [True, False])
def test_libraries_speak_through_the_same_stream_from_warning_on(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str], imported_first: bool
) -> None:
    if imported_first:
        install_library_handlers()
    configure_logs(level="debug", form="json", stream=stream)
    if not imported_first:
        install_library_handlers()
    for name in ("transformers.modeling", "huggingface_hub.file_download", "uvicorn.error", "somebody.else"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("something with %s", "token=hunter2")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("an old habit", UserWarning, stacklevel=1)
    *heard, warned = lines(stream)
    assert [line["logger"] for line in heard] == [
        "transformers.modeling",
        "huggingface_hub.file_download",
        "uvicorn.error",
        "somebody.else",
    ]
    assert {(line["event"], line["level"]) for line in heard} == {("something with token=***", "warning")}
    assert "an old habit" in warned["event"]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_configured_twice_each_line_comes_once(stream: io.StringIO) -> None:
    for _ in range(2):
        configure_logs(level="info", form="json", stream=stream)
    structlog.get_logger().info("once")
    logging.getLogger("transformers").warning("once too")
    assert [line["event"] for line in lines(stream)] == ["once", "once too"]


def test_lines_of_several_threads_do_not_mix(stream: io.StringIO) -> None:
    configure_logs(level="info", form="json", stream=stream)

    def talk(name: str) -> None:
        for number in range(50):
            structlog.get_logger().info("talk", name=name, number=number)

    threads = [threading.Thread(target=talk, args=(str(index),)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(stream)) == 200


def test_a_broken_stream_does_not_stop_the_loop(stream: io.StringIO, clock: Clock) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError("nobody reads")

    configure_logs(level="info", form="json", stream=Broken())
    LogObserver(clock=clock).started()


def test_the_life_of_the_loop_is_logged(stream: io.StringIO, clock: Clock) -> None:
    configure_logs(level="info", form="json", stream=stream)
    observer = LogObserver(clock=clock)
    clock.advance(60.0)  # the model loads
    observer.started()
    observer.assigned([Partition("tickets.raw", 2), Partition("tickets.raw", 0), Partition("posts.raw", 1)])
    observer.consumed("tickets.raw", 300)
    observer.consumed("posts.raw", 20)
    observer.published("tickets.raw", [0.1] * 5)
    observer.committed(2, 0.01)
    observer.revoked([Partition("tickets.raw", 0)], lost=False)
    observer.revoked([Partition("tickets.raw", 2)], lost=True)
    clock.advance(12.5)
    observer.stopped()

    started, assigned, revoked, lost, stopped = lines(stream)
    assert started["event"] == "started"
    assert assigned["partitions"] == {"posts.raw": [1], "tickets.raw": [0, 2]}
    assert (revoked["event"], revoked["level"]) == ("partitions revoked", "info")
    assert (lost["event"], lost["level"]) == ("partitions lost", "warning")
    del stopped["timestamp"]
    assert stopped == {
        "event": "stopped",
        "level": "info",
        "ran_s": 12.5,
        "consumed": 320,
        "published": 5,
        "rejected": 0,
        "dead_lettered": 0,
        "commits": 1,
        "commit_failures": 0,
        "rewinds": 0,
    }


def test_what_becomes_of_commits_and_label_sets_is_logged(
    stream: io.StringIO, clock: Clock, label_set: LabelSet
) -> None:
    configure_logs(level="info", form="json", stream=stream)
    observer = LogObserver(clock=clock)
    observer.committed(2, 0.01)
    observer.commit_failed()
    observer.rewound("the transaction was aborted")
    observer.reloaded({"tickets": label_set})
    observer.reload_failed("labels.yaml: not YAML")
    observer.stopped()

    rewound, reloaded, failed, stopped = lines(stream)
    assert (rewound["level"], rewound["reason"]) == ("warning", "the transaction was aborted")
    assert (reloaded["level"], reloaded["versions"]) == ("info", {"tickets": label_set.version})
    assert (failed["level"], failed["reason"]) == ("error", "labels.yaml: not YAML")
    assert (stopped["commits"], stopped["commit_failures"], stopped["rewinds"]) == (1, 1, 1)


def test_rejects_are_counted_once_a_second_and_never_quoted(
    stream: io.StringIO, clock: Clock, make_reject: MakeReject
) -> None:
    configure_logs(level="info", form="json", stream=stream)
    observer = LogObserver(clock=clock)
    observer.rejected(make_reject("tickets.raw", 41, "bad_json"))
    observer.beat("poll")
    for offset in range(42, 542):
        observer.rejected(make_reject("tickets.raw", offset, "bad_json"))
        observer.beat("poll")
    observer.rejected(make_reject("posts.raw", 7, "null_value"))
    clock.advance(0.9)
    observer.beat("poll")
    assert len(lines(stream)) == 1
    clock.advance(0.2)
    observer.beat("poll")
    observer.beat("poll")
    clock.advance(5.0)
    observer.beat("poll")
    observer.rejected(make_reject("posts.raw", 8, "no_text"))
    observer.stopped()

    first, second, third, stopped = lines(stream)
    assert first["rejects"] == [{"topic": "tickets.raw", "code": "bad_json", "records": 1, "first": "tickets.raw-0-41"}]
    assert second["level"] == "warning"
    assert second["rejects"] == [
        {"topic": "tickets.raw", "code": "bad_json", "records": 500, "first": "tickets.raw-0-42"},
        {"topic": "posts.raw", "code": "null_value", "records": 1, "first": "posts.raw-0-7"},
    ]
    assert third["rejects"][0]["code"] == "no_text"
    assert stopped["rejected"] == 503
    assert "private" not in stream.getvalue()
