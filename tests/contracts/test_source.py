"""What every Source must do, whatever stands behind it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from streamer.records import Outbound, Partition, Position
from streamer.transport.base import Source

if TYPE_CHECKING:
    from tests.contracts.conftest import Listener, Transport


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [str(number).encode() for number in range(first, first + count)]


def joined(transport: Transport, listener: Listener, unique: str) -> tuple[str, Source]:
    """A topic, and a member of its group that listens."""
    topic = transport.topic(unique)
    source = transport.source([topic], unique)
    source.subscribe(listener)
    return topic, source


def test_records_come_in_order_with_all_they_carry(transport: Transport, listener: Listener, unique: str) -> None:
    topic = transport.topic(unique)
    sent = [
        Outbound(topic, b"key", b"value", (("a", b"1"), ("a", None), ("b", b"")), 1_700_000_000_123, False),
        Outbound(topic, None, b"", (), 1_700_000_000_000, False),
        Outbound(topic, b"", None, (), 1_600_000_000_000, False),
        Outbound(topic, "schlüssel".encode(), b"\xff\x00", (("ü", "é".encode()),), 1_700_000_000_001, False),
    ]
    transport.produce(sent, partition=2)
    source = transport.source([topic], unique)
    source.subscribe(listener)
    records = transport.collect(source, len(sent))
    assert [(r.key, r.value, r.headers, r.timestamp_ms) for r in records] == [
        (m.key, m.value, m.headers, m.timestamp_ms) for m in sent
    ]
    assert [tuple(r.position) for r in records] == [(topic, 2, offset) for offset in range(len(sent))]
    assert all(r.payload is None for r in records)


def test_a_long_partition_keeps_its_order_and_poll_its_bound(
    transport: Transport, listener: Listener, unique: str
) -> None:
    topic, source = joined(transport, listener, unique)
    for partition in range(4):
        transport.fill(topic, numbered(500), partition)
    seen: dict[int, list[int]] = {partition: [] for partition in range(4)}
    deadline = time.monotonic() + 30
    while sum(map(len, seen.values())) < 2000:
        assert time.monotonic() < deadline
        batch = source.poll(64, 0.05)
        assert len(batch) <= 64
        for record in batch:
            seen[record.position.partition].append(record.position.offset)
    assert all(offsets == list(range(500)) for offsets in seen.values())


def test_the_listener_hears_of_partitions_once(transport: Transport, listener: Listener, unique: str) -> None:
    topic, source = joined(transport, listener, unique)
    partitions = [Partition(topic, number) for number in range(4)]
    transport.until(source, lambda: len(listener.assigned) == 4)
    assert sorted(listener.assigned) == partitions
    source.close()
    assert sorted(listener.revoked) == partitions
    assert not listener.lost
    source.close()
    assert len(listener.revoked) == 4


def test_a_paused_topic_is_silent_until_resumed(transport: Transport, listener: Listener, unique: str) -> None:
    topics = [transport.topic(f"{unique}-a"), transport.topic(f"{unique}-b")]
    source = transport.source(topics, unique)
    source.subscribe(listener)
    source.pause([topics[0]])  # before anything is assigned
    for topic in topics:
        transport.fill(topic, numbered(20))
    assert {r.position.topic for r in transport.collect(source, 20)} == {topics[1]}
    transport.nothing_comes(source)
    source.resume([topics[0]])
    first = transport.collect(source, 5)
    source.pause(topics)
    transport.fill(topics[1], numbered(5, 20))
    transport.nothing_comes(source)
    source.resume(topics)
    rest = transport.collect(source, 20)
    offsets = [r.position.offset for r in [*first, *rest] if r.position.topic == topics[0]]
    assert offsets == list(range(20))
    assert [r.position.offset for r in rest if r.position.topic == topics[1]] == list(range(20, 25))
    transport.nothing_comes(source)


@pytest.mark.parametrize("wait", [True, False])
def test_a_new_member_goes_on_after_what_was_committed(
    transport: Transport, listener: Listener, unique: str, wait: bool
) -> None:
    topic, source = joined(transport, listener, unique)
    transport.fill(topic, numbered(10), 0)
    transport.fill(topic, numbered(10), 3)
    records = transport.collect(source, 20)
    assert len(records) == 20
    source.commit({Partition(topic, 0): 4}, wait=wait)
    source.commit({Partition(topic, 0): 7, Partition(topic, 3): 10}, wait=wait)
    source.close()
    after = transport.source([topic], unique)
    after.subscribe(listener)
    assert [tuple(r.position) for r in transport.collect(after, 3)] == [(topic, 0, offset) for offset in (7, 8, 9)]
    transport.nothing_comes(after)


def test_what_is_not_committed_comes_again(transport: Transport, listener: Listener, unique: str) -> None:
    topic, source = joined(transport, listener, unique)
    transport.fill(topic, numbered(10))
    transport.collect(source, 10)
    source.close()
    after = transport.source([topic], unique)
    after.subscribe(listener)
    assert [r.position.offset for r in transport.collect(after, 10)] == list(range(10))


def test_a_commit_while_revoked_counts(transport: Transport, listener: Listener, unique: str) -> None:
    topic, source = joined(transport, listener, unique)
    transport.fill(topic, numbered(10))
    transport.collect(source, 10)
    listener.while_revoking = lambda: source.commit({Partition(topic, 0): 9}, wait=True)
    source.close()
    listener.while_revoking = lambda: None
    after = transport.source([topic], unique)
    after.subscribe(listener)
    assert [r.position.offset for r in transport.collect(after, 1)] == [9]


def test_what_the_listener_raises_comes_out(transport: Transport, listener: Listener, unique: str) -> None:
    topic, source = joined(transport, listener, unique)
    transport.until(source, lambda: len(listener.assigned) == 4)

    def fail() -> None:
        raise ArithmeticError("from the listener")

    listener.while_revoking = fail
    with pytest.raises(ArithmeticError, match="from the listener"):
        source.close()
    listener.while_revoking = lambda: None
    transport.fill(topic, numbered(1))
    after = transport.source([topic], unique)
    after.subscribe(listener)
    assert len(transport.collect(after, 1)) == 1


def test_a_rewind_reads_again_what_is_not_committed(transport: Transport, listener: Listener, unique: str) -> None:
    topic, source = joined(transport, listener, unique)
    transport.fill(topic, numbered(10), 0)
    transport.fill(topic, numbered(10), 1)
    before = {record.position: record.epoch for record in transport.collect(source, 20)}
    source.commit({Partition(topic, 0): 6}, wait=True)
    source.rewind(None)
    again = transport.collect(source, 14)
    assert sorted(tuple(r.position)[1:] for r in again) == [
        *((0, offset) for offset in range(6, 10)),
        *((1, offset) for offset in range(10)),
    ]
    assert all(record.epoch > before[record.position] for record in again)
    transport.nothing_comes(source)


def test_a_rewind_to_offsets_moves_only_their_partitions(transport: Transport, listener: Listener, unique: str) -> None:
    topic, source = joined(transport, listener, unique)
    transport.fill(topic, numbered(10), 0)
    transport.fill(topic, numbered(10), 1)
    before = {record.position: record.epoch for record in transport.collect(source, 20)}
    source.rewind({Partition(topic, 1): 8})
    again = transport.collect(source, 2)
    assert [tuple(r.position)[1:] for r in again] == [(1, 8), (1, 9)]
    assert all(record.epoch > before[record.position] for record in again)
    transport.fill(topic, numbered(1, 10), 0)
    untouched = transport.collect(source, 1)
    assert [tuple(r.position)[1:] for r in untouched] == [(0, 10)]
    assert untouched[0].epoch == before[Position(topic, 0, 0)]


def test_a_rewind_drops_what_was_fetched_ahead(transport: Transport, listener: Listener, unique: str) -> None:
    topic, source = joined(transport, listener, unique)
    transport.fill(topic, numbered(1000))
    transport.collect(source, 100)
    source.commit({Partition(topic, 0): 50}, wait=True)
    source.rewind(None)
    assert [r.position.offset for r in transport.collect(source, 950)] == list(range(50, 1000))


def test_a_paused_topic_can_be_rewound(transport: Transport, listener: Listener, unique: str) -> None:
    topic, source = joined(transport, listener, unique)
    transport.fill(topic, numbered(10))
    transport.collect(source, 10)
    source.pause([topic])
    source.rewind({Partition(topic, 0): 3})
    transport.nothing_comes(source)
    source.resume([topic])
    assert [r.position.offset for r in transport.collect(source, 7)] == list(range(3, 10))


def test_a_new_group_may_begin_at_the_end(transport: Transport, listener: Listener, unique: str) -> None:
    topic = transport.topic(unique)
    transport.fill(topic, numbered(5))
    source = transport.source([topic], unique, reset="latest")
    source.subscribe(listener)
    transport.until(source, lambda: len(listener.assigned) == 4)
    transport.fill(topic, numbered(5, 5))
    assert [r.position.offset for r in transport.collect(source, 5)] == list(range(5, 10))
    source.rewind(None)
    assert [r.position.offset for r in transport.collect(source, 5)] == list(range(5, 10))


def test_a_group_that_began_at_the_end_skips_nothing_afterwards(
    transport: Transport, listener: Listener, unique: str
) -> None:
    topic = transport.topic(unique)
    transport.fill(topic, numbered(5))
    source = transport.source([topic], unique, reset="latest")
    source.subscribe(listener)
    transport.until(source, lambda: len(listener.assigned) == 4)
    transport.fill(topic, numbered(5, 5))
    transport.collect(source, 5)
    source.close()  # without a commit, as after a crash
    transport.fill(topic, numbered(5, 10))
    after = transport.source([topic], unique, reset="latest")
    after.subscribe(listener)
    assert [r.position.offset for r in transport.collect(after, 10)] == list(range(5, 15))


def test_lag_falls_to_zero(transport: Transport, listener: Listener, unique: str) -> None:
    topic, source = joined(transport, listener, unique)
    at = Partition(topic, 1)
    an_hour_ago = int(time.time() * 1000) - 3_600_000
    transport.produce([Outbound(topic, None, b"v", (), an_hour_ago, False)] * 10, partition=1)
    transport.collect(source, 4)
    lag = source.lag()[at]
    assert lag.records == 6
    assert lag.seconds == pytest.approx(3600, abs=60)
    transport.collect(source, 6)
    transport.until(source, lambda: len(source.lag()) == 4)
    assert {(lag.records, lag.seconds) for lag in source.lag().values()} == {(0, 0.0)}
    source.commit({at: 10}, wait=True)
    source.close()
    assert not source_lag_after_restart(transport, listener, topic, unique)


def source_lag_after_restart(transport: Transport, listener: Listener, topic: str, group: str) -> int:
    """Records that a new member of the group is behind before it read anything."""
    after = transport.source([topic], group)
    after.subscribe(listener)
    transport.until(after, lambda: len(after.lag()) == 4)
    return sum(lag.records for lag in after.lag().values())


def test_a_closed_member_lets_go_of_its_lag_and_partitions(
    transport: Transport, listener: Listener, unique: str
) -> None:
    topic, source = joined(transport, listener, unique)
    transport.until(source, lambda: len(listener.assigned) == 4)
    assert source.commit_token() is not None
    source.close()
    after = transport.source([topic], unique)
    after.subscribe(listener)
    transport.until(after, lambda: len(listener.assigned) == 8)
