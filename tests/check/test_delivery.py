"""Which settings of exactly_once are told to work against each other, and which the client or the cluster refuses."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from streamer.app import Connection
from streamer.check.delivery import check_delivery, check_transactional_producer
from streamer.check.findings import Finding, Level
from streamer.settings import Settings, build_settings
from streamer.transport.kafka_client import Properties
from streamer.transport.kafka_transactions_admin import TransactionAdmin

if TYPE_CHECKING:
    from tests.conftest import RoadBroker


def settings(**changed: Any) -> Settings:
    content: dict[str, Any] = {
        "delivery": "exactly_once",
        "label_sets": {"l": {"facets": {"f": {"labels": ["a", "b"]}}}},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "l"}],
        **changed,
    }
    return build_settings(content, origin="test")


@pytest.mark.parametrize(
    ("kafka", "told"),
    [
        ({"transactional_id": "mine"}, "'mine', as set: each process needs one of its own"),
        ({"group_id": "g", "group_instance_id": "pod-1"}, "'g-pod-1', from kafka.group_id and group_instance_id"),
        ({"group_id": "g"}, f"'g-{socket.gethostname()}', from kafka.group_id and this host's name: a second process"),
    ],
)
def test_the_transactional_id_and_its_origin_are_told(kafka: dict[str, str], told: str) -> None:
    (finding,) = check_delivery(settings(kafka=kafka))
    assert finding.level is Level.OK
    assert told in finding.what


def test_at_least_once_has_nothing_to_tell() -> None:
    assert not list(check_delivery(settings(delivery="at_least_once", limits={"commit_deadline_s": 0.1})))


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"limits": {"commit_deadline_s": 9, "transaction_timeout_s": 10}}, "limits.commit_deadline_s"),
        (
            {"kafka": {"properties": {"transaction.timeout.ms": 60_000}}},
            "kafka.properties.transaction.timeout.ms",
        ),
    ],
)
def test_times_that_work_against_each_other_are_warned_of(changed: dict[str, Any], where: str) -> None:
    _, finding = check_delivery(settings(**changed))
    assert finding.level is Level.WARNING
    assert finding.where == where
    assert finding.advice


def findings_of(one: Settings, road: RoadBroker, properties: Properties) -> list[Finding]:
    connection = Connection(road.bootstrap_servers, {"log_level": 0, **properties}, embedded=False)
    return list(check_transactional_producer(one, connection, TransactionAdmin(road.bootstrap_servers, {}, 10)))


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("properties", "where", "says"),
    [
        ({"isolation.level": "READ_UNCOMMITTED"}, "kafka.properties.isolation.level", "labelled twice"),
        ({"enable.idempotence": False}, "kafka.properties", "transactional.id"),
        ({"acks": 1}, "kafka.properties", "acks"),
        ({"message.timeout.ms": 60_000}, "kafka.properties", "message.timeout.ms"),
    ],
)
def test_properties_that_break_exactly_once_are_errors(
    kafka_road: RoadBroker, properties: Properties, where: str, says: str
) -> None:
    fault, fits = findings_of(settings(), kafka_road, properties)
    assert fault.level is Level.ERROR
    assert fault.where == where
    assert says in fault.what
    assert fits.level is Level.OK


@pytest.mark.kafka
def test_a_timeout_beyond_the_brokers_is_an_error(kafka_road: RoadBroker) -> None:
    class ShortLimit(TransactionAdmin):
        """Brokers whose transaction.max.timeout.ms was lowered."""

        def longest_timeout_ms(self) -> int:
            return 5_000

    assert TransactionAdmin(kafka_road.bootstrap_servers, {}, 10).longest_timeout_ms() == 900_000
    connection = Connection(kafka_road.bootstrap_servers, {}, embedded=False)
    admin = ShortLimit(kafka_road.bootstrap_servers, {}, 10)
    (finding,) = check_transactional_producer(settings(), connection, admin)
    assert finding.level is Level.ERROR
    assert finding.what.startswith("10 s, and the brokers take 5 s at most")
    assert finding.advice == "set it to 5 or less"
