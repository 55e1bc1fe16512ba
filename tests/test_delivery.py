"""At least once against a sink that has no room: what waits, what is dropped, what is committed."""

from __future__ import annotations

import time

from streamer.delivery import AtLeastOnce
from streamer.observe import Observer
from streamer.records import Envelope, Outbound, Partition, Position
from streamer.transport.memory import MemorySink, MemorySource
from streamer.transport.memory_broker import MemoryBroker

AT = Partition("in", 0)


class Road:
    """A delivery on a sink that holds two messages and acknowledges none until told to."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(partitions=2, max_message_bytes=1000, now_ms=lambda: 0)
        self.broker.create_topic("in")
        self.sink = MemorySink(broker=self.broker, most=2)
        self.sink.hold()
        source = MemorySource(broker=self.broker, group_id="g", topics=["in"], auto_offset_reset="earliest")
        self.delivery = AtLeastOnce(
            source=source,
            sink=self.sink,
            observer=Observer(),
            commit_interval_s=0.0,
            clock=time.monotonic,
            sleep=time.sleep,
        )

    def send(self, count: int, partition: int = 0) -> None:
        for offset in range(count):
            one = Envelope(Position("in", partition, offset), 1, b"k", (), None, b"v", None)
            self.delivery.start([one])
            self.delivery.send(one, [Outbound("out", b"k", b"%d" % offset, (), None, False)])

    def written(self) -> list[bytes | None]:
        return [stored.value for stored in self.broker.messages("out").values()]


def test_what_finds_no_room_waits_its_turn() -> None:
    road = Road()
    road.send(5)
    assert road.written() == [b"0", b"1"]
    assert road.delivery.serve(0.0) == 5
    road.sink.release()
    while road.delivery.serve(0.0):
        pass
    assert road.written() == [b"0", b"1", b"2", b"3", b"4"]
    assert road.delivery.uncommitted == 5


def test_what_waits_is_dropped_when_its_partition_goes() -> None:
    road = Road()
    road.send(4)
    road.delivery.let_go([AT])
    road.sink.release()
    while road.delivery.serve(0.0):
        pass
    assert road.written() == [b"0", b"1"]
    assert road.delivery.uncommitted == 0
