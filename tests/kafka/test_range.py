"""Bounded stretches of topics on a real broker: what is in them, where they end, and that reading them ends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streamer.errors import TransientError, UsageError
from streamer.records import Envelope, Outbound, Partition
from streamer.transport.kafka_client import Properties
from streamer.transport.kafka_range import AtOffset, AtTime, Bound, Edge, Range, RangeReader, find_ranges
from tests.marks import until_marked

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

pytestmark = pytest.mark.kafka

MINUTE_MS = 60_000


def message(topic: str, value: bytes, timestamp_ms: int | None = None) -> Outbound:
    return Outbound(topic, None, value, (), timestamp_ms, False)


def find(road: RoadBroker, topic: str, since: Bound = Edge.BEGINNING, until: Bound = Edge.END) -> list[Range]:
    return find_ranges(road.bootstrap_servers, {}, topic, since=since, until=until, timeout_s=10)


def open_reader(road: RoadBroker, ranges: Sequence[Range], *, patience_s: float = 10) -> RangeReader:
    return RangeReader(
        bootstrap_servers=road.bootstrap_servers,
        properties={},
        ranges=ranges,
        fetch_memory_mb=8,
        patience_s=patience_s,
    )


def read(road: RoadBroker, ranges: Sequence[Range], at_once: int = 100) -> list[Envelope[None]]:
    """All of the ranges; fails when that takes longer than 20 s."""
    reader = open_reader(road, ranges)
    found: list[Envelope[None]] = []
    deadline_s = time.monotonic() + 20
    while not reader.done:
        assert time.monotonic() < deadline_s, f"{len(found)} records, then nothing"
        found += reader.poll(at_once, 0.1)
    assert reader.position() == {one.at: max(one.end, one.begin) for one in ranges}
    assert reader.poll(at_once, 0.1) == []
    reader.close()
    return found


def poll_for(reader: RangeReader, seconds: float) -> None:
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        reader.poll(10, 0.1)


def transactional(road: RoadBroker, name: str) -> Producer:
    producer = Producer({"bootstrap.servers": road.bootstrap_servers, "transactional.id": name})
    producer.init_transactions(20)
    return producer


def in_transaction(producer: Producer, topic: str, values: Sequence[bytes], *, keep: bool) -> None:
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    producer.flush(20)
    if keep:
        producer.commit_transaction(20)
    else:
        producer.abort_transaction(20)


def test_all_of_a_topic_in_order_and_as_it_was(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=3)
    for partition in (0, 2):
        kafka_road.produce([message(topic, b"%d" % n, 1000 + n) for n in range(250)], partition)
    kafka_road.produce([Outbound(topic, b"key", None, (("a", b"\xff"), ("a", None)), 7, False)], 2)
    ranges = find(kafka_road, topic)
    assert ranges == [Range(Partition(topic, n), 0, end) for n, end in enumerate((250, 0, 251))]
    records = read(kafka_road, ranges)
    for partition, count in ((0, 250), (2, 251)):
        own = [record for record in records if record.position.partition == partition]
        assert [record.position.offset for record in own] == list(range(count))
        assert [record.value for record in own[:250]] == [b"%d" % n for n in range(250)]
    last = max(records, key=lambda record: record.position)
    assert (last.key, last.value, last.headers, last.timestamp_ms) == (b"key", None, (("a", b"\xff"), ("a", None)), 7)


def test_only_what_lies_between_the_bounds(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=2)
    for partition in (0, 1):
        kafka_road.produce([message(topic, b"%d" % n) for n in range(10)], partition)
    ranges = find(kafka_road, topic, AtOffset(3), AtOffset(6))
    assert sorted(record.value for record in read(kafka_road, ranges)) == [b"3", b"3", b"4", b"4", b"5", b"5"]  # type: ignore[type-var]
    assert [(one.begin, one.end) for one in find(kafka_road, topic, AtOffset(8), AtOffset(99))] == [(8, 10)] * 2
    for since, until in ((AtOffset(99), Edge.END), (Edge.END, Edge.END), (AtOffset(6), AtOffset(3))):
        nothing = find(kafka_road, topic, since, until)
        assert [len(one) for one in nothing] == [0, 0]
        assert [one.expired for one in nothing] == [0, 0]
        assert read(kafka_road, nothing) == []


def test_bounds_by_time(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=2)
    noon_ms = (int(time.time()) - 3600) * 1000
    minutes = [message(topic, b"%d" % n, noon_ms + n * MINUTE_MS) for n in range(10)]
    kafka_road.produce(minutes[:5], 0)
    kafka_road.produce(minutes[5:], 1)
    ranges = find(kafka_road, topic, AtTime(noon_ms + 3 * MINUTE_MS), AtTime(noon_ms + 7 * MINUTE_MS))
    assert [(one.begin, one.end) for one in ranges] == [(3, 5), (0, 2)]
    assert [record.value for record in sorted(read(kafka_road, ranges), key=lambda record: record.position)] == [
        b"3", b"4", b"5", b"6"
    ]  # fmt: skip
    after = find(kafka_road, topic, AtTime(noon_ms + 99 * MINUTE_MS), Edge.END)
    assert [(one.begin, one.end) for one in after] == [(5, 5), (5, 5)]


@pytest.mark.parametrize("at_once", [1, 100])
def test_marks_and_aborted_records_at_the_end_are_not_waited_for(
    kafka_road: RoadBroker, unique: str, at_once: int
) -> None:
    topic = kafka_road.create_topic(unique, partitions=1)
    producer = transactional(kafka_road, unique)
    in_transaction(producer, topic, [b"1", b"2"], keep=True)
    in_transaction(producer, topic, [b"never"] * 5, keep=False)
    in_transaction(producer, topic, [b"3"], keep=True)
    in_transaction(producer, topic, [b"never"] * 300, keep=False)
    producer.close()
    until_marked(kafka_road.bootstrap_servers, topic)
    (whole,) = find(kafka_road, topic)
    assert (whole.begin, whole.end) == (0, 3 + 6 + 2 + 301)
    assert [record.value for record in read(kafka_road, [whole], at_once)] == [b"1", b"2", b"3"]
    # a range may end within what was aborted, or hold nothing else
    for begin, end, values in ((0, 5, [b"1", b"2"]), (4, 10, [b"3"]), (3, 8, []), (20, 40, []), (2, 3, [])):
        assert [one.value for one in read(kafka_road, [Range(whole.at, begin, end)], at_once)] == values


def test_an_open_transaction_is_not_waited_for(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=1)
    kafka_road.produce([message(topic, b"before")], 0)
    producer = transactional(kafka_road, unique)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(20)
    kafka_road.produce([message(topic, b"behind it")], 0)
    ranges = find(kafka_road, topic)
    assert [(one.begin, one.end) for one in ranges] == [(0, 1)]
    assert [record.value for record in read(kafka_road, ranges)] == [b"before"]
    assert [(one.begin, one.end) for one in find(kafka_road, topic, AtOffset(2))] == [(1, 1)]
    producer.abort_transaction(20)
    producer.close()


def test_expired_offsets_are_told(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=1)
    kafka_road.produce([message(topic, b"%d" % n) for n in range(10)], 0)
    (was,) = find(kafka_road, topic)
    expire(kafka_road, topic, 6)
    (now,) = find(kafka_road, topic)
    assert (now.begin, now.end, now.expired) == (6, 10, 0)
    (asked,) = find(kafka_road, topic, AtOffset(2))
    assert (asked.begin, asked.end, asked.expired) == (6, 10, 4)
    (gone,) = find(kafka_road, topic, AtOffset(2), AtOffset(5))
    assert (len(gone), gone.expired) == (0, 3)
    assert read(kafka_road, [gone]) == []
    # what expires after the question is left out, and does not stop the reading
    assert [record.position.offset for record in read(kafka_road, [was])] == [6, 7, 8, 9]
    expire(kafka_road, topic, 10)
    assert read(kafka_road, [was]) == []


def expire(road: RoadBroker, topic: str, before: int) -> None:
    admin = AdminClient({"bootstrap.servers": road.bootstrap_servers})
    for answer in admin.delete_records([TopicPartition(topic, 0, before)]).values():
        answer.result()


def test_what_is_not_there_ends_the_patience(kafka_road: RoadBroker, unique: str) -> None:
    topic = kafka_road.create_topic(unique, partitions=1)
    producer = transactional(kafka_road, unique)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(20)
    reader = open_reader(kafka_road, [Range(Partition(topic, 0), 0, 1)], patience_s=0.5)
    with pytest.raises(TransientError, match=f"topic '{topic}': nothing came for .* offset 0 to 1"):
        poll_for(reader, 20)
    assert not reader.done
    reader.close()
    producer.abort_transaction(20)
    producer.close()


def test_mistakes_are_told(kafka_road: RoadBroker, unique: str) -> None:
    with pytest.raises(UsageError, match="topic 'not-there' does not exist"):
        find(kafka_road, "not-there")
    everything: dict[str, Bound] = {"since": Edge.BEGINNING, "until": Edge.END}
    with pytest.raises(UsageError, match=r"kafka\.properties: .*bogus"):
        find_ranges(kafka_road.bootstrap_servers, {"bogus": 1}, unique, **everything, timeout_s=5)
    with pytest.raises(TransientError):
        find_ranges("127.0.0.1:1", {"log_level": 0}, unique, **everything, timeout_s=1)


def test_missing_rights_and_a_refused_login_are_told(
    kafka_road: RoadBroker, kafka_sasl_bootstrap: str, unique: str
) -> None:
    topic = kafka_road.create_topic(unique)
    for password, says in (("local-test-only", "denies access"), ("sesame", "refuses the login")):
        login: Properties = {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "nobody",
            "sasl.password": password,
        }
        with pytest.raises(UsageError, match=says):
            find_ranges(kafka_sasl_bootstrap, login, topic, since=Edge.BEGINNING, until=Edge.END, timeout_s=3)
