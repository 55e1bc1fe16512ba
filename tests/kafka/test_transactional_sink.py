"""Transactions when the brokers are slow, silent or in doubt, and when two processes hold the same id."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition

from streamer.errors import FatalError, RewindError
from streamer.records import Outbound, Partition
from streamer.transport.base import DeliveryOutcome, Settling
from streamer.transport.kafka_admin import create_topics
from streamer.transport.kafka_source import KafkaSource
from streamer.transport.kafka_transactions import KafkaTransactionalSink
from tests.listeners import Deaf

if TYPE_CHECKING:
    from tests.kafka.conftest import KafkaCluster

pytestmark = pytest.mark.kafka

KAFKA_SCRIPT = "deploy/kafka/kafka.sh"
WAIT_S = 40.0


class Member:
    """A group member that writes to one topic, with short deadlines."""

    def __init__(self, servers: str, name: str, transaction_timeout_s: float, instance: str | None = None) -> None:
        self.servers = servers
        self.out = f"{name}-out"
        self.at = Partition(name, 0)
        create_topics(servers, {}, {name: 1, self.out: 1}, {}, timeout_s=30)
        self.source = self.another_source(instance)
        self.sink = self.another_sink(transaction_timeout_s)
        self.sink.open()

    def another_source(self, instance: str | None) -> KafkaSource:
        """Another member of the group; returns when it holds the partition."""
        source = KafkaSource(
            bootstrap_servers=self.servers, group_id=self.at.topic, topics=[self.at.topic], properties={},
            auto_offset_reset="earliest", group_protocol="classic", group_instance_id=instance, fetch_memory_mb=8,
        )  # fmt: skip
        source.subscribe(Deaf())
        deadline = time.monotonic() + WAIT_S
        while not source.lag():
            assert time.monotonic() < deadline
            source.poll(1, 0.1)
        return source

    def another_sink(self, transaction_timeout_s: float) -> KafkaTransactionalSink:
        return KafkaTransactionalSink(
            bootstrap_servers=self.servers, properties={}, buffer_memory_mb=8, topics={},
            transactional_id=self.at.topic, transaction_timeout_s=transaction_timeout_s, commit_deadline_s=3.0,
        )  # fmt: skip

    def write(self, value: bytes) -> None:
        outcomes: list[DeliveryOutcome] = []
        self.sink.begin()
        self.sink.send(Outbound(self.out, None, value, (), None, False), outcomes.append)
        assert self.sink.flush(WAIT_S) == 0
        assert outcomes == [None]

    def commit(self, offset: int) -> Settling:
        return self.sink.commit({self.at: offset}, self.source.commit_token())

    def written(self) -> list[bytes | None]:
        reader = Consumer({"bootstrap.servers": self.servers, "group.id": "r", "auto.offset.reset": "earliest",
                           "enable.partition.eof": True})  # fmt: skip
        reader.assign([TopicPartition(self.out, 0, 0)])
        found: list[bytes | None] = []
        while True:
            (message,) = reader.consume(1, WAIT_S)
            if message.error() is not None:
                reader.close()
                return found
            found.append(message.value())

    def comes(self, expected: list[bytes | None]) -> bool:
        """A commit is answered before the broker has marked all partitions: readers may see it a moment later."""
        deadline = time.monotonic() + WAIT_S
        while self.written() != expected and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.written() == expected

    def close(self) -> None:
        self.sink.close()
        self.source.close()


def settle(settling: Settling) -> None:
    deadline = time.monotonic() + WAIT_S
    while not settling.wait(0.05):
        assert time.monotonic() < deadline, "it is never done"


@contextmanager
def frozen(cluster: KafkaCluster) -> Iterator[None]:
    """All brokers keep their connections open and say nothing."""
    pids = [
        int(subprocess.run([KAFKA_SCRIPT, "pid", str(node)], check=True, capture_output=True, text=True,
                           env={**os.environ, **cluster.environment}).stdout)
        for node in (1, 2, 3)
    ]  # fmt: skip
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_commit_without_an_answer_is_settled_by_a_new_producer(whole_cluster: KafkaCluster, unique: str) -> None:
    member = Member(whole_cluster.bootstrap_servers, unique, transaction_timeout_s=30.0)
    try:
        member.write(b"in doubt")
        with frozen(whole_cluster):
            settling = member.commit(1)
            began_s = time.monotonic()
            while time.monotonic() - began_s < 4.0:  # past the deadline for commits, within that of a new producer
                assert not settling.wait(0.05)
        with pytest.raises(RewindError):
            settle(settling)
        before = member.written()
        assert before in ([], [b"in doubt"])
        member.write(b"afterwards")
        settle(member.commit(2))
        assert member.comes([*before, b"afterwards"])
    finally:
        member.close()


def test_a_transaction_that_outlives_its_timeout_costs_no_process(whole_cluster: KafkaCluster, unique: str) -> None:
    member = Member(whole_cluster.bootstrap_servers, unique, transaction_timeout_s=1.0)
    try:
        member.write(b"too slow")
        time.sleep(4)  # the broker ends it after its timeout, at its next look
        with pytest.raises(RewindError):
            settle(member.commit(1))
        assert member.written() == []
        member.write(b"in time")
        settle(member.commit(1))
        assert member.comes([b"in time"])
    finally:
        member.close()


def test_what_was_left_unsent_does_not_fill_the_next_transaction(whole_cluster: KafkaCluster, unique: str) -> None:
    member = Member(whole_cluster.bootstrap_servers, unique, transaction_timeout_s=30.0)
    try:
        member.write(b"connects")
        settle(member.commit(1))
        with frozen(whole_cluster):
            member.sink.begin()
            while not member.sink.full:
                member.sink.send(Outbound(member.out, None, bytes(900_000), (), None, False), lambda _: None)
            settling = member.sink.abort()
            began_s = time.monotonic()
            while time.monotonic() - began_s < 4.0:  # past the deadline of calls
                assert not settling.wait(0.05)
        with suppress(RewindError):
            settle(settling)
        member.sink.begin()
        assert not member.sink.full
        settle(member.sink.abort())
        member.write(b"afterwards")
        settle(member.commit(2))
        assert member.comes([b"connects", b"afterwards"])
    finally:
        member.close()


def test_a_rival_ends_the_first_holder(whole_cluster: KafkaCluster, unique: str) -> None:
    member = Member(whole_cluster.bootstrap_servers, unique, transaction_timeout_s=30.0)
    rival = member.another_sink(30.0)
    try:
        member.write(b"first")
        rival.open()
        with pytest.raises(FatalError, match="fenced: another process took the transactional id"):
            settle(member.commit(1))
        assert member.written() == []
    finally:
        rival.close()
        member.close()


def test_a_member_whose_static_membership_was_taken_says_so(kafka_bootstrap: str, unique: str) -> None:
    member = Member(kafka_bootstrap, unique, transaction_timeout_s=30.0, instance="pod-0")
    rival = member.another_source("pod-0")
    try:
        member.write(b"never seen")
        with pytest.raises(FatalError, match=r"same kafka\.group_instance_id"):
            settle(member.commit(1))
    finally:
        rival.close()
        member.sink.close()
