"""What a user is told when Kafka, the topics, the login or the rights are wrong: one line, and soon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from streamer.errors import DeliveryError, UsageError
from streamer.records import Outbound
from streamer.transport.base import DeliveryOutcome
from streamer.transport.kafka_admin import create_topics, describe_cluster, topic_facts
from streamer.transport.kafka_client import GroupProtocol, Properties
from streamer.transport.kafka_sink import KafkaSink
from streamer.transport.kafka_source import KafkaSource
from tests.listeners import Deaf

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

pytestmark = pytest.mark.kafka

NOBODY = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "nobody"}
WRONG_PASSWORD: Properties = {**NOBODY, "sasl.password": "sesame"}
NO_RIGHTS: Properties = {**NOBODY, "sasl.password": "local-test-only"}


def source(bootstrap: str, topics: list[str], protocol: GroupProtocol, properties: Properties) -> KafkaSource:
    return KafkaSource(
        bootstrap_servers=bootstrap,
        group_id=topics[0],
        topics=topics,
        properties=properties,
        auto_offset_reset="earliest",
        group_protocol=protocol,
        group_instance_id=None,
        fetch_memory_mb=8,
    )


def sink(bootstrap: str, properties: Properties) -> KafkaSink:
    return KafkaSink(bootstrap_servers=bootstrap, properties=properties, buffer_memory_mb=8, topics={})


def line_of(reader: KafkaSource, within_s: float = 20) -> str:
    """The one line that a source stops with."""

    def go() -> None:
        reader.subscribe(Deaf())
        poll_for(reader, within_s)

    with pytest.raises(UsageError) as caught:
        go()
    reader.close()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def poll_for(reader: KafkaSource, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        reader.poll(10, 0.1)


def flush_for(writer: KafkaSink, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        writer.flush(0.1)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_missing_topic_is_named(kafka_road: RoadBroker, unique: str, protocol: GroupProtocol) -> None:
    there = kafka_road.create_topic(unique)
    line = line_of(source(kafka_road.bootstrap_servers, [there, "not-there"], protocol, {}))
    assert "topic 'not-there' does not exist" in line
    assert "create it" in line


def test_a_topic_that_vanishes_is_named(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique)
    reader = source(kafka_road.bootstrap_servers, [topic], "classic", {"topic.metadata.refresh.interval.ms": 200})
    reader.subscribe(Deaf())
    reader.poll(1, 0.5)
    kafka_road.remove_topics()
    kafka_road.made.clear()
    with pytest.raises(UsageError, match=f"topic '{topic}' does not exist"):
        poll_for(reader, 20)
    reader.close()


def test_a_wrong_password_is_told_to_all(kafka_sasl_bootstrap: str, unique: str) -> None:
    words = f"Kafka at {kafka_sasl_bootstrap} refuses the login"
    with pytest.raises(UsageError) as caught:
        describe_cluster(kafka_sasl_bootstrap, WRONG_PASSWORD, timeout_s=2)
    writer = sink(kafka_sasl_bootstrap, WRONG_PASSWORD)
    writer.send(Outbound(unique, None, b"v", (), None, False), lambda outcome: None)
    with pytest.raises(UsageError) as by_writer:
        flush_for(writer, 20)
    writer.close()
    by_reader = line_of(source(kafka_sasl_bootstrap, [unique], "classic", WRONG_PASSWORD))
    for line in (str(caught.value), str(by_writer.value), by_reader):
        assert words in line
        assert "Authentication failed" in line
        assert "sesame" not in line
        assert "\n" not in line


def test_a_login_where_none_is_wanted_is_told(kafka_road: RoadBroker) -> None:
    if "," in kafka_road.bootstrap_servers:
        pytest.skip("needs one broker")
    with pytest.raises(UsageError, match="refuses the login"):
        describe_cluster(kafka_road.bootstrap_servers, WRONG_PASSWORD, timeout_s=2)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_missing_rights_are_told(
    kafka_road: RoadBroker, kafka_sasl_bootstrap: str, unique: str, protocol: GroupProtocol
) -> None:
    topic = kafka_road.create_topic(unique)
    assert "denies access" in line_of(source(kafka_sasl_bootstrap, [topic], protocol, NO_RIGHTS))
    assert topic_facts(kafka_sasl_bootstrap, NO_RIGHTS, [topic], timeout_s=10) == {}
    with pytest.raises(UsageError, match="cannot be created"):
        create_topics(kafka_sasl_bootstrap, NO_RIGHTS, {"another": 1}, {}, timeout_s=10)
    writer = sink(kafka_sasl_bootstrap, {**NO_RIGHTS, "enable.idempotence": False})
    reports: list[DeliveryOutcome] = []
    writer.send(Outbound(topic, None, b"v", (), None, False), reports.append)
    assert writer.flush(20) == 0
    writer.close()
    assert isinstance(reports[0], UsageError)
    assert "authorization" in str(reports[0]).lower()


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:1"])
def test_a_broker_that_is_not_there_is_told_in_time(host: str) -> None:
    began = time.monotonic()
    with pytest.raises(UsageError, match=f"cannot reach Kafka at {host}: .*Connection refused.*check") as caught:
        describe_cluster(host, {}, timeout_s=1)
    assert time.monotonic() - began < 5
    assert "\n" not in str(caught.value)


def test_an_output_topic_that_is_missing_fails_the_delivery(kafka_road: RoadBroker) -> None:
    writer = sink(kafka_road.bootstrap_servers, {"topic.metadata.propagation.max.ms": 500})
    reports: list[DeliveryOutcome] = []
    writer.send(Outbound("not-there", None, b"v", (), None, False), reports.append)
    assert writer.flush(20) == 0
    writer.send(Outbound("not-there", None, b"v", (), None, False), reports.append)
    assert writer.flush(20) == 0
    writer.close()
    assert len(reports) == 2
    for report in reports:
        assert isinstance(report, DeliveryError)
        assert "topic 'not-there' does not exist" in str(report)
