"""Reading what only a real broker offers: transactions, expired offsets, static members."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, ConsumerGroupState, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from streamer.errors import FatalError
from streamer.records import Envelope, Outbound, Partition
from streamer.transport.kafka_client import GroupProtocol
from streamer.transport.kafka_source import KafkaSource
from tests.listeners import Deaf

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

pytestmark = pytest.mark.kafka


def join(road: RoadBroker, topic: str, instance: str | None = None, protocol: GroupProtocol = "classic") -> KafkaSource:
    source = KafkaSource(
        bootstrap_servers=road.bootstrap_servers,
        group_id=topic,
        topics=[topic],
        properties={},
        auto_offset_reset="earliest",
        group_protocol=protocol,
        group_instance_id=instance,
        fetch_memory_mb=8,
    )
    source.subscribe(Deaf())
    return source


def poll_until(source: KafkaSource, holds: Callable[[list[Envelope[None]]], bool]) -> list[Envelope[None]]:
    records: list[Envelope[None]] = []
    deadline = time.monotonic() + 30
    while not holds(records):
        assert time.monotonic() < deadline
        records += source.poll(100, 0.05)
    return records


def test_aborted_records_never_come_and_lag_falls_to_zero_behind_transactions(
    kafka_road: RoadBroker, unique: str
) -> None:
    topic = kafka_road.create_topic(unique, partitions=1)
    at = Partition(topic, 0)
    producer = Producer({"bootstrap.servers": kafka_road.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(20)
    for value, end in ((b"1", True), (b"2", False), (b"3", True)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(20)
        if end:
            producer.commit_transaction(20)
        else:
            producer.abort_transaction(20)
    producer.close()
    source = join(kafka_road, topic)
    records = poll_until(source, lambda records: len(records) == 2)
    assert [record.value for record in records] == [b"1", b"3"]
    poll_until(source, lambda _: source.lag()[at].records == 0)
    source.commit({at: records[-1].position.offset + 1}, wait=True)
    source.close()
    # the mark that ends the last transaction stands after the committed offset, and is no record
    after = join(kafka_road, topic)
    assert poll_until(after, lambda _: at in after.lag() and after.lag()[at].records == 0) == []
    after.close()


def test_an_expired_offset_begins_anew_and_says_so(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=1)
    kafka_road.produce([Outbound(topic, None, b"v", (), None, False)] * 10, partition=0)
    source = join(kafka_road, topic)
    poll_until(source, lambda records: len(records) == 10)
    source.commit({Partition(topic, 0): 2}, wait=True)
    source.close()
    admin = AdminClient({"bootstrap.servers": kafka_road.bootstrap_servers})
    for answer in admin.delete_records([TopicPartition(topic, 0, 6)]).values():
        answer.result()
    after = join(kafka_road, topic)
    with capture_logs() as lines:
        records = poll_until(after, lambda records: len(records) == 4)
    assert [record.position.offset for record in records] == [6, 7, 8, 9]
    assert any("offset reset" in line.get("text", "") and line["log_level"] == "warning" for line in lines)
    after.close()


def test_a_second_holder_of_a_static_membership_fences_the_first(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=1)
    kafka_road.produce([Outbound(topic, None, b"v", (), None, False)], partition=0)
    first = join(kafka_road, topic, instance="pod-0")
    poll_until(first, lambda records: len(records) == 1)
    second = join(kafka_road, topic, instance="pod-0")
    poll_until(second, lambda records: len(records) == 1)
    with pytest.raises(FatalError, match=r"same kafka\.group_instance_id .*fenced by other consumer"):
        poll_until(first, lambda records: False)
    first.close()
    second.close()


def test_a_static_membership_in_use_is_refused_by_the_consumer_protocol(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=1)
    kafka_road.produce([Outbound(topic, None, b"v", (), None, False)], partition=0)
    first = join(kafka_road, topic, instance="pod-0", protocol="consumer")
    poll_until(first, lambda records: len(records) == 1)
    second = join(kafka_road, topic, instance="pod-0", protocol="consumer")
    with pytest.raises(FatalError, match=r"same kafka\.group_instance_id .*still used by another member"):
        poll_until(second, lambda records: False)
    second.close()
    first.close()


def test_a_commit_that_is_waited_for_outlasts_a_rebalance(kafka_road: RoadBroker, unique: str) -> None:
    """A process that ends while another one joins has finished its records: nobody else may read them again."""
    topic = kafka_road.create_topic(unique)
    kafka_road.produce([Outbound(topic, None, b"%d" % i, (), None, False) for i in range(40)])
    source = join(kafka_road, topic)
    records = poll_until(source, lambda records: len(records) == 40)
    done = {record.position.at: record.position.offset + 1 for record in records}
    admin = AdminClient({"bootstrap.servers": kafka_road.bootstrap_servers})
    joining = join(kafka_road, topic)
    deadline = time.monotonic() + 10
    while True:
        (described,) = admin.describe_consumer_groups([topic], request_timeout=10).values()
        if described.result().state is ConsumerGroupState.PREPARING_REBALANCING:
            break
        assert time.monotonic() < deadline
    with capture_logs() as logs:
        source.commit(done, wait=True)
    assert logs == []
    reader = Consumer({"bootstrap.servers": kafka_road.bootstrap_servers, "group.id": topic})
    committed = reader.committed([TopicPartition(*at) for at in done], timeout=10)
    assert {Partition(one.topic, one.partition): one.offset for one in committed} == done
    reader.close()
    source.close()
    joining.close()
