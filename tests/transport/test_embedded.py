"""The broker inside the process."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer

from streamer.transport.embedded import EmbeddedBroker

DEMO = """
from confluent_kafka import Producer
from streamer.transport.embedded import EmbeddedBroker

with EmbeddedBroker(brokers=3) as broker:
    assert broker.bootstrap_servers.count(",") == 2
    broker.create_topics(["t"])
    properties = {"bootstrap.servers": broker.bootstrap_servers, **broker.client_properties("consumer")}
    producer = Producer(properties)
    producer.produce("t", b"v")
    assert producer.flush(10) == 0
    producer.close()
"""


def test_it_starts_serves_and_ends_in_silence() -> None:
    done = subprocess.run([sys.executable, "-c", DEMO], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_topics_are_made_once_with_four_partitions(embedded_broker: EmbeddedBroker) -> None:
    topic = uuid.uuid4().hex
    embedded_broker.create_topics([topic])
    embedded_broker.create_topics([topic])
    reader = Consumer(
        {
            "bootstrap.servers": embedded_broker.bootstrap_servers,
            "group.id": topic,
            **embedded_broker.client_properties("classic"),
        }
    )
    assert len(reader.list_topics(topic, timeout=10).topics[topic].partitions) == 4
    reader.close()


def test_a_classic_group_forms(embedded_broker: EmbeddedBroker) -> None:
    topic = uuid.uuid4().hex
    properties = embedded_broker.client_properties("classic")
    producer = Producer({"bootstrap.servers": embedded_broker.bootstrap_servers, **properties, "log_level": 0})
    producer.produce(topic, b"v")
    assert producer.flush(10) == 0
    producer.close()
    member = Consumer(
        {
            "bootstrap.servers": embedded_broker.bootstrap_servers,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            **properties,
        }
    )
    member.subscribe([topic])
    deadline = time.monotonic() + 15
    while (message := member.poll(0.1)) is None:
        assert time.monotonic() < deadline
    assert message.value() == b"v"
    member.close()
