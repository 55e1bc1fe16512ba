"""What topics of a real broker are like, and what they refuse."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from streamer.records import Outbound
from streamer.transport.base import DeliveryOutcome, Refused
from streamer.transport.kafka_admin import create_topics, describe_cluster, topic_facts
from streamer.transport.kafka_sink import KafkaSink

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

pytestmark = pytest.mark.kafka


def sink(road: RoadBroker, *known: str) -> KafkaSink:
    facts = topic_facts(road.bootstrap_servers, {}, known, timeout_s=10)
    # lingering long, so that all messages of a test come in one batch if they may
    properties = {"linger.ms": 200}
    return KafkaSink(bootstrap_servers=road.bootstrap_servers, properties=properties, buffer_memory_mb=8, topics=facts)


def outcomes(writer: KafkaSink, messages: list[Outbound]) -> list[str]:
    reports: dict[int, DeliveryOutcome] = {}
    for number, message in enumerate(messages):
        writer.send(message, lambda outcome, number=number: reports.setdefault(number, outcome))  # type: ignore[misc]
    assert writer.flush(30) == 0
    writer.close()
    return [type(reports[number]).__name__ for number in range(len(messages))]


def test_a_cluster_that_answers_is_described(kafka_road: RoadBroker) -> None:
    facts = describe_cluster(kafka_road.bootstrap_servers, {}, timeout_s=10)
    assert facts.cluster_id
    assert set(kafka_road.bootstrap_servers.split(",")) <= set(facts.brokers)


def test_facts_of_topics_are_read(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(
        unique,
        partitions=3,
        settings={
            "cleanup.policy": "compact",
            "max.message.bytes": "20000",
            "message.timestamp.after.max.ms": "60000",
        },
    )
    found = topic_facts(kafka_road.bootstrap_servers, {}, [topic, "not-there"], timeout_s=10)
    assert list(found) == [topic]
    facts = found[topic]
    assert (facts.partitions, facts.cleanup_policy, facts.max_message_bytes) == (3, "compact", 20_000)
    assert (facts.timestamp_after_max_ms, facts.timestamp_before_max_ms) == (60_000, None)
    assert facts.compacted
    create_topics(kafka_road.bootstrap_servers, {}, {topic: 9}, {}, timeout_s=10)
    assert topic_facts(kafka_road.bootstrap_servers, {}, [topic], timeout_s=10)[topic].partitions == 3


def test_a_topic_stamped_by_the_broker_has_no_bounds(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, settings={"message.timestamp.type": "LogAppendTime"})
    facts = topic_facts(kafka_road.bootstrap_servers, {}, [topic], timeout_s=10)[topic]
    assert (facts.timestamp_after_max_ms, facts.compacted) == (None, False)


def test_a_message_beyond_a_topics_limit_is_refused_alone(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=1, settings={"max.message.bytes": "20000"})
    messages = [Outbound(topic, b"k", os.urandom(1_000), (), None, False) for _ in range(60)]
    messages.insert(30, Outbound(topic, b"k", os.urandom(50_000), (), None, False))
    kinds = outcomes(sink(kafka_road, topic), messages)
    assert kinds == ["NoneType"] * 30 + ["Refused"] + ["NoneType"] * 30
    read = [message.value() for message in kafka_road.read_all(topic)]
    assert read == [message.value for message in messages if len(message.value or b"") == 1_000]


def test_a_large_message_goes_where_the_topic_takes_it(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=1, settings={"max.message.bytes": "3000000"})
    assert outcomes(sink(kafka_road, topic), [Outbound(topic, None, os.urandom(2_000_000), (), None, False)]) == [
        "NoneType"
    ]


def test_no_key_for_a_compacted_topic_is_refused_alone(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=1, settings={"cleanup.policy": "compact"})
    messages = [Outbound(topic, None if n == 5 else b"%d" % n, b"v", (), None, False) for n in range(10)]
    assert outcomes(sink(kafka_road, topic), messages) == ["NoneType"] * 5 + ["Refused"] + ["NoneType"] * 4


def test_a_timestamp_out_of_bounds_is_refused_alone(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=1, settings={"message.timestamp.after.max.ms": "60000"})
    now_ms = int(time.time() * 1000)
    messages = [Outbound(topic, b"k", b"v", (), now_ms + ahead_ms, False) for ahead_ms in (0, 7_200_000, 1_000)]
    assert outcomes(sink(kafka_road, topic), messages) == ["NoneType", "Refused", "NoneType"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cleanup.policy": "compact"}, Outbound("", None, b"v", (), None, False)),
        ({"message.timestamp.after.max.ms": "1000"}, Outbound("", b"k", b"v", (), 9_999_999_999_999, False)),
        ({"max.message.bytes": "1000"}, Outbound("", b"k", os.urandom(5_000), (), None, False)),
    ],
)
def test_the_broker_refuses_what_was_not_known(
    kafka_road: RoadBroker, unique: str, settings: dict[str, str], message: Outbound
) -> None:
    topic = kafka_road.create_topic(unique, partitions=1, settings=settings)
    refused = Outbound(topic, message.key, message.value, (), message.timestamp_ms, False)
    good = Outbound(topic, b"k", b"v", (), None, False)
    reports: list[DeliveryOutcome] = []
    writer = sink(kafka_road)
    writer.send(refused, reports.append)
    assert writer.flush(20) == 0
    writer.send(good, reports.append)
    assert writer.flush(20) == 0
    writer.close()
    assert isinstance(reports[0], Refused)
    assert reports[1] is None, "the sink goes on"
