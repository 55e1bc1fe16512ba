"""What a check finds in a cluster and in the times agreed with it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import pytest

from streamer.app import Connection
from streamer.check.cluster import check_broker, check_times
from streamer.check.findings import Finding, Level
from streamer.settings import Settings, build_settings

Broker: TypeAlias = Any  # a RoadBroker of conftest.py


def settings(name: str = "t", **changed: Any) -> Settings:
    content: dict[str, Any] = {
        "label_sets": {
            "l": {
                "facets": {"f": {"labels": ["a", "b"]}},
                "routes": [{"when": {"facet": "f", "label": "a"}, "to": f"{name}.route"}],
            }
        },
        "streams": [{"topic": f"{name}.in", "output": f"{name}.out", "dead_letter": f"{name}.dead", "label_set": "l"}],
        **changed,
    }
    return build_settings(content, origin="test")


def look(
    one: Settings,
    bootstrap_servers: str,
    *,
    reach_timeout_s: float = 10.0,
    properties: Mapping[str, str] = MappingProxyType({}),
) -> list[Finding]:
    connection = Connection(bootstrap_servers, properties, embedded=False)
    return list(check_broker(one, connection, reach_timeout_s=reach_timeout_s))


def of(findings: list[Finding], topic: str) -> list[Finding]:
    return [finding for finding in findings if finding.where == f"topic '{topic}'"]


def test_an_embedded_broker_needs_nothing() -> None:
    connection = Connection("127.0.0.1:1", {}, embedded=True)
    (finding,) = check_broker(settings(), connection, reach_timeout_s=0.1)
    assert finding.level is Level.OK


def test_a_broker_out_of_reach_is_one_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # takes connections and never answers
        (finding,) = look(settings(), f"127.0.0.1:{taken.getsockname()[1]}", reach_timeout_s=1.0)
    assert finding.level is Level.ERROR
    assert finding.where == "kafka.bootstrap_servers"
    assert "cannot reach Kafka" in finding.what
    assert "check kafka.bootstrap_servers" in finding.advice


def test_a_property_that_the_client_refuses_is_one_error_without_its_value() -> None:
    (finding,) = look(settings(), "127.0.0.1:1", properties={"ssl.key.password": "hunter2", "acks": "hunter2"})
    assert finding.level is Level.ERROR
    assert "hunter2" not in f"{finding}"


def test_missing_topics_are_errors_with_the_line_that_makes_them(broker: Broker, unique: str) -> None:
    findings = look(settings(unique), broker.bootstrap_servers)
    assert findings[0].level is Level.OK
    assert "answers: 1 broker" in findings[0].what
    assert [(finding.level, finding.where) for finding in findings[1:]] == [
        (Level.ERROR, f"topic '{unique}.{use}'") for use in ("in", "out", "dead", "route")
    ]
    assert f"--create --topic {unique}.in --partitions" in findings[1].advice
    assert f"dead letters of '{unique}.in'" in findings[3].what


def test_settings_that_cannot_be_read_are_warned_of(embedded_road: Broker, unique: str) -> None:
    """The embedded broker tells no topic settings."""
    for use in ("in", "out", "dead", "route"):
        embedded_road.create_topic(f"{unique}.{use}")
    findings = look(settings(unique), embedded_road.bootstrap_servers, reach_timeout_s=1.0)
    assert [finding.what for finding in of(findings, f"{unique}.in")] == [
        "input, 4 partitions: up to 4 instances share the work"
    ]
    for use in ("out", "dead", "route"):
        known, unknown = of(findings, f"{unique}.{use}")
        assert known.level is Level.OK
        assert unknown.level is Level.WARNING
        assert "cannot be read" in unknown.what
        assert "DescribeConfigs" in unknown.advice


@pytest.mark.kafka
def test_topics_that_fit_are_in_order(kafka_road: Broker, unique: str) -> None:
    kafka_road.create_topic(f"{unique}.in", 1)
    for use in ("out", "dead", "route"):
        kafka_road.create_topic(f"{unique}.{use}", 2)
    findings = look(settings(unique), kafka_road.bootstrap_servers)
    assert {finding.level for finding in findings} == {Level.OK}
    assert of(findings, f"{unique}.in")[0].what == "input, 1 partition: 1 instance works"
    assert of(findings, f"{unique}.route")[0].what == f"route of '{unique}.in', 2 partitions"


@pytest.mark.kafka
def test_topics_that_refuse_what_is_written_are_warned_of(kafka_road: Broker, unique: str) -> None:
    kafka_road.create_topic(f"{unique}.in")
    kafka_road.create_topic(f"{unique}.out", settings={"cleanup.policy": "compact"})
    kafka_road.create_topic(f"{unique}.route")
    kafka_road.create_topic(
        f"{unique}.dead", settings={"cleanup.policy": "compact,delete", "max.message.bytes": "100000"}
    )
    findings = look(settings(unique), kafka_road.bootstrap_servers)
    (output,) = [finding for finding in of(findings, f"{unique}.out") if finding.level is Level.WARNING]
    assert "events without key are refused and become dead letters" in output.what
    compacted, small = [finding for finding in of(findings, f"{unique}.dead") if finding.level is Level.WARNING]
    assert "a dead letter without key is refused, which stops the process" in compacted.what
    assert "takes messages of 100,000 bytes, dead letters may hold 966,560" in small.what
    assert "limits.max_dead_letter_bytes lower" in small.advice
    assert not [finding for finding in findings if finding.level is Level.ERROR]
    enough = look(settings(unique, limits={"max_dead_letter_bytes": 30_000}), kafka_road.bootstrap_servers)
    assert small not in enough
    assert len([finding for finding in of(enough, f"{unique}.dead") if finding.level is Level.WARNING]) == 1


@pytest.mark.parametrize(
    ("properties", "drain_s", "where"),
    [
        ({}, 300, "limits.drain_timeout_s"),
        ({"max.poll.interval.ms": 60_000}, 90, "limits.drain_timeout_s"),
        ({"max.poll.interval.ms": "30000"}, 10, "kafka.properties.session.timeout.ms"),
        ({"session.timeout.ms": 400_000}, 10, "kafka.properties.session.timeout.ms"),
        ({"session.timeout.ms": "soon"}, 10, "kafka.properties.session.timeout.ms"),
        ({"max.poll.interval.ms": {"env": "ANYTHING"}}, 10, "kafka.properties.max.poll.interval.ms"),
        ({"max.poll.interval.ms": 0}, 10, "kafka.properties.max.poll.interval.ms"),
    ],
)
def test_times_that_do_not_fit_are_errors(properties: dict[str, Any], drain_s: float, where: str) -> None:
    one = settings(kafka={"properties": properties}, limits={"drain_timeout_s": drain_s})
    (finding,) = [finding for finding in check_times(one) if finding.level is Level.ERROR]
    assert finding.where == where
    assert finding.advice


def test_a_last_transaction_needs_time_too() -> None:
    limits = {"drain_timeout_s": 40, "commit_deadline_s": 20}
    properties = {"max.poll.interval.ms": 60_000}
    one = settings(delivery="exactly_once", kafka={"properties": properties}, limits=limits)
    (finding,) = check_times(one)
    assert finding.level is Level.WARNING
    assert finding.where == "limits.commit_deadline_s"
    assert finding.what.startswith("20 s for the last transaction after 40 s to finish work")
    (fits,) = check_times(settings(kafka={"properties": properties}, limits=limits))
    assert fits.level is Level.OK


def test_times_that_fit_are_in_order() -> None:
    one = settings(kafka={"properties": {"max.poll.interval.ms": 600_000}}, limits={"drain_timeout_s": 300})
    (finding,) = check_times(one)
    assert finding.level is Level.OK
    assert finding.what == "300 s to finish work in a rebalance; the group waits 600 s"
