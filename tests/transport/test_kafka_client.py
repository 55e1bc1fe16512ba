"""Configuration, log and errors of Kafka clients."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from structlog.testing import capture_logs

from streamer.errors import FatalError, TransientError, UsageError
from streamer.transport.kafka_client import ClientLog, Failures, configuration, connect, reason


def test_the_users_properties_win() -> None:
    config = configuration("b:1", {"linger.ms": 7}, {"linger.ms": 5, "acks": "all"})
    assert config == {"bootstrap.servers": "b:1", "linger.ms": 7, "acks": "all"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("enable.auto.commit", "committed when their outputs are acknowledged"),
        ("enable.auto.offset.store", "committed when their outputs are acknowledged"),
        ("bootstrap.servers", "set kafka.bootstrap_servers"),
        ("transactional.id", "set delivery"),
    ],
)
def test_a_property_with_a_setting_of_its_own_is_refused_by_name(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' cannot be set here: .*{hint}"):
        configuration("b:1", {name: "x"}, {})


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"no.such.thing": 1}, 'No such configuration property: "no.such.thing"'),
        ({"session.timeout.ms": "soon"}, 'Invalid value for configuration property "session.timeout.ms"'),
        ({"error_cb": "text"}, "error_cb"),
    ],
)
def test_what_the_client_does_not_take_is_one_line(properties: dict[str, str | int], words: str) -> None:
    with pytest.raises(UsageError, match=r"^kafka\.properties: ") as caught:
        connect(Consumer, configuration("b:1", properties, {"group.id": "g"}))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_secrets_stay_out_of_errors() -> None:
    config = configuration("b:1", {"sasl.password": "hunter2", "hunter2": "x"}, {"group.id": "g"})
    with pytest.raises(UsageError) as caught:
        connect(Consumer, config)
    assert "hunter2" not in str(caught.value)
    assert "***" in str(caught.value)


def test_the_client_logs_through_structlog_and_not_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_logs() as lines:
        producer: Producer = connect(Producer, configuration("127.0.0.1:1", {"session.timeout.ms": 6000}, {}))
        while not lines:
            producer.poll(0.1)
        producer.close()
    assert {line["event"] for line in lines} == {"kafka client"}
    assert "Connection refused" in lines[0]["text"]
    assert lines[0]["log_level"] == "error"
    assert capfd.readouterr().err == ""


def test_properties_of_the_other_client_are_no_news() -> None:
    with capture_logs() as lines:
        ClientLog(lambda: 0.0).log(
            30, "", "CONFWARN", "c", "x is a consumer property and will be ignored by this producer"
        )
        ClientLog(lambda: 0.0).log(30, "", "CONFWARN", "c", "x is deprecated")
    assert [line["text"] for line in lines] == ["x is deprecated"]


def test_what_the_client_says_over_and_over_is_logged_now_and_then() -> None:
    now_s = 0.0
    log = ClientLog(lambda: now_s)
    with capture_logs() as lines:
        for attempt in range(100):
            now_s = attempt / 5
            log.log(40, "", "FAIL", "c", f"broker down (after {attempt} ms)")
        log.log(40, "", "FAIL", "c", "something else")
    assert [(line["text"], line["repeated"]) for line in lines] == [
        ("broker down (after 0 ms)", 0),
        ("broker down (after 50 ms)", 49),
        ("something else", 0),
    ]


@pytest.mark.parametrize(
    ("code", "topic", "kind", "words"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "t", UsageError, "topic 't' does not exist at b:1"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "t", UsageError, "topic 't': Kafka denies access"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, None, UsageError, "Kafka denies access"),
        (KafkaError._AUTHENTICATION, None, UsageError, "refuses the login"),
        (KafkaError.INVALID_GROUP_ID, None, UsageError, "does not take the settings"),
        (KafkaError.FENCED_INSTANCE_ID, None, FatalError, "same kafka.group_instance_id"),
        (KafkaError.UNRELEASED_INSTANCE_ID, None, FatalError, "same kafka.group_instance_id"),
        (KafkaError._FATAL, None, FatalError, "cannot go on"),
        (KafkaError._TRANSPORT, None, TransientError, "Kafka: "),
        (KafkaError.REQUEST_TIMED_OUT, "t", TransientError, "topic 't': Kafka: "),
    ],
)
def test_errors_name_their_reaction(code: int, topic: str | None, kind: type[Exception], words: str) -> None:
    reaction = Failures("b:1").reaction(KafkaError(code), topic)
    assert type(reaction) is kind
    assert words in str(reaction)


def test_the_first_failure_is_raised_once() -> None:
    failures = Failures("b:1")
    with capture_logs() as lines:
        failures.on_error(KafkaError(KafkaError._TRANSPORT, "gone"))
        failures.on_client_error(KafkaError(KafkaError._TRANSPORT, "gone"))
        failures.on_client_error(KafkaError(KafkaError._ALL_BROKERS_DOWN, "all gone"))
    assert [line["text"] for line in lines] == ["gone", "all gone"]
    failures.raise_first()
    failures.on_client_error(KafkaError(KafkaError._AUTHENTICATION, "first"))
    failures.on_error(KafkaError(KafkaError._AUTHENTICATION, "second"))
    with pytest.raises(UsageError, match="first"):
        failures.raise_first()
    failures.raise_first()


def test_a_reason_is_one_line() -> None:
    assert reason(KafkaError(KafkaError._FAIL, "two\n  lines")) == "two lines"
    assert reason(ValueError()) == "ValueError()"
