"""Three Apache Kafka nodes: what is written outlives any one of them, and each can be killed and brought back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from streamer.transport.kafka_admin import create_topics

if TYPE_CHECKING:
    from tests.kafka.conftest import KafkaCluster

pytestmark = pytest.mark.kafka

NODES = {1, 2, 3}
NOTICED_S = 30.0


def produce(cluster: KafkaCluster, topic: str, values: list[bytes]) -> None:
    """Returns when every value is acknowledged by all replicas in sync."""
    errors: list[KafkaError | None] = []

    def reported(error: KafkaError | None, _message: Message) -> None:
        errors.append(error)

    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "acks": "all", "log_level": 0})
    for value in values:
        producer.produce(topic, value, partition=0, on_delivery=reported)
    assert producer.flush(NOTICED_S) == 0
    producer.close()
    assert errors == [None] * len(values)


def reader(cluster: KafkaCluster, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": cluster.bootstrap_servers,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )


def read(consumer: Consumer, topic: str, count: int) -> list[bytes | None]:
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes | None] = []
    deadline = time.monotonic() + NOTICED_S
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} records"
        found += [message.value() for message in consumer.consume(count, 0.1) if message.error() is None]
    return found


@pytest.mark.parametrize("topic", ["__consumer_offsets", "__transaction_state", "made-by-a-user"])
def test_every_topic_is_kept_three_times(kafka_cluster: KafkaCluster, topic: str) -> None:
    if not topic.startswith("__"):
        create_topics(kafka_cluster.bootstrap_servers, {}, {topic: 2}, {}, timeout_s=30)
    partitions = kafka_cluster.topic(topic).partitions.values()
    assert partitions
    for partition in partitions:
        assert set(partition.replicas) == NODES
    admin = AdminClient({"bootstrap.servers": kafka_cluster.bootstrap_servers, "log_level": 0})
    (answer,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)], request_timeout=30).values()
    settings = answer.result()
    assert settings["min.insync.replicas"].value == "2"
    assert settings["unclean.leader.election.enable"].value == "false"


def test_the_coordinator_is_the_node_that_kafka_names(kafka_cluster: KafkaCluster, unique: str) -> None:
    groups = [f"{unique}-{word}" for word in ("one", "zwei", "três", "四", "🙂")]
    admin = AdminClient({"bootstrap.servers": kafka_cluster.bootstrap_servers, "log_level": 0})
    for group, answer in admin.describe_consumer_groups(groups, request_timeout=30).items():
        assert answer.result().coordinator.id == kafka_cluster.coordinator("group", group), group
    assert kafka_cluster.coordinator("transaction", unique) in NODES


def test_a_killed_node_is_survived_and_comes_back(whole_cluster: KafkaCluster, unique: str) -> None:
    create_topics(whole_cluster.bootstrap_servers, {}, {unique: 1}, {}, timeout_s=30)
    consumer = reader(whole_cluster, unique)
    produce(whole_cluster, unique, [b"before"])
    victim = whole_cluster.coordinator("group", unique)
    whole_cluster.kill(victim)
    produce(whole_cluster, unique, [b"without it"])
    assert read(consumer, unique, 2) == [b"before", b"without it"]
    consumer.commit(offsets=[TopicPartition(unique, 0, 2)], asynchronous=False)
    assert whole_cluster.coordinator("group", unique) != victim
    whole_cluster.start(victim)
    whole_cluster.await_whole()
    produce(whole_cluster, unique, [b"after"])
    assert read(consumer, unique, 3) == [b"before", b"without it", b"after"]
    (committed,) = consumer.committed([TopicPartition(unique, 0)], timeout=NOTICED_S)
    assert committed.offset == 2
    consumer.close()
