"""Transactions in memory: what tests can make them do. The rest is in the contract suite."""

from __future__ import annotations

import pytest

from streamer.errors import FatalError, RewindError, TransientError
from streamer.records import Outbound, Partition
from streamer.transport.base import Settling
from streamer.transport.memory import MemoryBroker, MemorySource
from streamer.transport.memory_broker import Step
from streamer.transport.memory_transactions import MemoryTransactionalSink
from tests.listeners import Deaf

AT = Partition("in", 0)


class Faults:
    at: Step | None = None

    def __call__(self, step: Step) -> None:
        if step == self.at:
            self.at = None
            raise TransientError(f"fault at {step}")


class Road:
    """A member that holds two partitions, and its sink."""

    def __init__(self, looks: int = 0) -> None:
        self.faults = Faults()
        self.broker = MemoryBroker(partitions=2, max_message_bytes=100, now_ms=lambda: 5_000, fault=self.faults)
        self.broker.create_topic("in")
        self.source = MemorySource(broker=self.broker, group_id="g", topics=["in"], auto_offset_reset="earliest")
        self.source.subscribe(Deaf())
        self.source.poll(1, 0)
        self.sink = MemoryTransactionalSink(broker=self.broker, looks=looks)

    def begin(self, value: bytes = b"1") -> None:
        self.sink.begin()
        self.sink.send(Outbound("out", b"k", value, (), None, False), lambda _: None)

    def commit(self) -> Settling:
        return self.sink.commit({AT: 1}, self.source.commit_token())

    def outcome(self) -> tuple[int, int | None]:
        return len(self.broker.messages("out")), self.broker.committed("g", AT)


@pytest.mark.parametrize("how", ["lost", "revoked", "refused", "fault"])
def test_a_transaction_that_cannot_commit_says_so(how: str) -> None:
    road = Road()
    road.begin(bytes(101) if how == "refused" else b"1")
    settling = road.commit()
    if how == "lost":
        road.broker.lose(road.source, [AT])
    elif how == "revoked":
        road.broker.revoke(road.source, [AT])
        road.source.poll(1, 0)
    elif how == "fault":
        road.faults.at = "transaction"
    with pytest.raises(RewindError):
        settling.wait(0)
    assert road.outcome() == (0, None)
    road.sink.begin()


def test_an_answer_can_be_lost_after_the_commit_took_effect() -> None:
    road = Road()
    road.begin()
    road.faults.at = "transaction done"
    with pytest.raises(RewindError):
        road.commit().wait(0)
    assert road.outcome() == (1, 1)


def test_an_answer_can_take_its_time() -> None:
    road = Road(looks=2)
    road.begin()
    settling = road.commit()
    assert [settling.wait(0), settling.wait(0), road.outcome()[0], settling.wait(0)] == [False, False, 0, True]
    assert road.outcome() == (1, 1)


def test_wrong_use_of_a_transaction_is_fatal() -> None:
    road = Road()
    with pytest.raises(FatalError, match="outside a transaction"):
        road.sink.send(Outbound("out", None, b"1", (), None, False), lambda _: None)
    with pytest.raises(FatalError, match="needs an open transaction"):
        road.sink.commit({}, object())
    road.sink.begin()
    with pytest.raises(FatalError, match="open already"):
        road.sink.begin()
