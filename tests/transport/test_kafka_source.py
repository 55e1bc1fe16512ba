"""What is Kafka's own about the source: what it tells its user, and how it bears a broker that is gone."""

from __future__ import annotations

import time

import pytest

from streamer.errors import TransientError, UsageError
from streamer.records import Envelope, Outbound
from streamer.transport.embedded import EmbeddedBroker
from streamer.transport.kafka_client import Properties
from streamer.transport.kafka_sink import KafkaSink
from streamer.transport.kafka_source import KafkaSource
from tests.listeners import Deaf


def make(bootstrap_servers: str, topic: str, properties: Properties) -> KafkaSource:
    return KafkaSource(
        bootstrap_servers=bootstrap_servers,
        group_id=topic,
        topics=[topic],
        properties=properties,
        auto_offset_reset="earliest",
        group_protocol="consumer",
        group_instance_id=None,
        fetch_memory_mb=8,
    )


def test_a_property_that_is_not_the_users_to_set_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'enable\.auto\.commit' cannot be set here"):
        make("127.0.0.1:1", "t", {"enable.auto.commit": True})


def test_a_member_that_never_joined_can_be_closed() -> None:
    make("127.0.0.1:1", "t", {}).close()


def test_a_broker_that_goes_away_is_waited_for_but_not_for_long(unique: str) -> None:
    with EmbeddedBroker(brokers=1) as broker:
        broker.create_topics([unique])
        properties = broker.client_properties("consumer")
        sink = KafkaSink(
            bootstrap_servers=broker.bootstrap_servers, properties=properties, buffer_memory_mb=8, topics={}
        )
        sink.send(Outbound(unique, b"k", b"v", (), None, False), lambda outcome: None)
        assert sink.flush(10) == 0
        sink.close()
        source = make(broker.bootstrap_servers, unique, properties)
        source.subscribe(Deaf())
        records: list[Envelope[None]] = []
        deadline = time.monotonic() + 20
        while not records:
            assert time.monotonic() < deadline
            records = source.poll(10, 0.1)
    done = {records[0].position.at: 1}
    assert source.poll(10, 0.1) == []
    began = time.monotonic()
    with pytest.raises(TransientError):
        source.commit(done, wait=True)
    assert source.poll(10, 0.1) == []
    source.close()
    assert time.monotonic() - began < 10
