"""What every TransactionalSink must do, whatever stands behind it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from streamer.errors import RewindError
from streamer.records import Outbound, Partition
from streamer.transport.base import CommitToken, DeliveryOutcome, Refused, TransactionalSink

if TYPE_CHECKING:
    from tests.contracts.conftest import Listener, Transport


def message(topic: str, value: bytes) -> Outbound:
    return Outbound(topic, b"k", value, (), None, False)


class Member:
    """A member of a group that has read one record, and a sink to write what it came to."""

    def __init__(self, transport: Transport, listener: Listener, unique: str) -> None:
        self.transport = transport
        self.topic = transport.topic(unique)
        self.out = transport.topic(f"{unique}-out")
        self.source = transport.source([self.topic], unique)
        self.source.subscribe(listener)
        transport.fill(self.topic, [b"1", b"2"])
        transport.collect(self.source, 2)
        self.at = Partition(self.topic, 0)
        self.sink = transport.transactional_sink(unique)
        self.sink.open()

    def write(self, value: bytes) -> None:
        self.sink.begin()
        assert self.transport.deliver(self.sink, [message(self.out, value)]) == [None]

    def commit(self, offset: int, token: CommitToken | None = None) -> None:
        token = self.source.commit_token() if token is None else token
        self.transport.settle(self.sink.commit({self.at: offset}, token))

    def written(self) -> list[bytes | None]:
        return [read.value for read in self.transport.read(self.out)]

    def comes(self, expected: list[bytes], timeout_s: float = 30) -> bool:
        """A commit is answered before the broker has marked all partitions: readers may see it a moment later."""
        deadline = time.monotonic() + timeout_s
        while self.written() != expected and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.written() == expected

    def read_again(self) -> list[bytes | None]:
        """Records after the committed offset."""
        self.source.rewind(None)
        left = 2 - len(self.committed)
        return [one.value for one in self.transport.collect(self.source, left)]

    committed: tuple[int, ...] = ()


@pytest.fixture
def member(transactions: Transport, listener: Listener, unique: str) -> Member:
    return Member(transactions, listener, unique)


def test_messages_and_offsets_are_seen_together_or_never(member: Member) -> None:
    member.write(b"first")
    assert member.written() == []
    member.commit(1)
    assert member.comes([b"first"])
    member.committed = (1,)
    assert member.read_again() == [b"2"]
    member.write(b"second")
    member.transport.settle(member.sink.abort())
    assert member.comes([b"first"])
    assert member.read_again() == [b"2"]
    member.write(b"third")
    member.commit(2)
    assert member.comes([b"first", b"third"])


def test_a_transaction_without_messages_commits_offsets(member: Member) -> None:
    member.sink.begin()
    member.commit(1)
    member.committed = (1,)
    assert member.read_again() == [b"2"]


def test_the_next_holder_of_the_id_ends_what_was_left_open(member: Member, unique: str) -> None:
    member.write(b"left open")
    second: TransactionalSink = member.transport.make_transactional_sink(unique)
    try:
        second.open()
        second.begin()
        assert member.transport.deliver(second, [message(member.out, b"second")]) == [None]
        member.transport.settle(second.commit({member.at: 1}, member.source.commit_token()))
    finally:
        second.close()
    assert member.comes([b"second"])


def test_an_aborted_message_is_not_reported(member: Member) -> None:
    reports: list[DeliveryOutcome] = []
    member.sink.begin()
    member.sink.send(message(member.out, b"aborted"), reports.append)
    aborting = member.sink.abort()
    reports.clear()  # memory reports at once, Kafka may have
    member.transport.settle(aborting)
    member.write(b"kept")
    assert reports == []
    member.commit(1)
    assert member.comes([b"kept"])


def test_a_refused_message_spoils_its_transaction_and_no_other(member: Member) -> None:
    member.sink.begin()
    (outcome,) = member.transport.deliver(member.sink, [message(member.out, bytes(1_100_000))])
    assert isinstance(outcome, Refused)
    member.transport.settle(member.sink.abort())
    member.write(b"fine")
    member.commit(1)
    assert member.comes([b"fine"])


def test_a_member_that_was_put_out_commits_nothing(member: Member, listener: Listener) -> None:
    token = member.source.commit_token()
    member.write(b"too late")
    member.source.close()  # it left the group: what it knew of it is worth nothing now
    with pytest.raises(RewindError):
        member.commit(2, token)
    assert member.written() == []
    member.write(b"ready again")
    member.transport.settle(member.sink.abort())
