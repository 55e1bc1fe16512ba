"""The transports that the contract suites of Source and Sink run over: memory, the embedded broker, Apache Kafka."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pytest

from streamer.records import Envelope, Headers, Outbound, Partition
from streamer.transport.base import DeliveryOutcome, GroupListener, Offsets, Settling, Sink, Source, TransactionalSink
from streamer.transport.kafka_client import GroupProtocol, OffsetReset
from streamer.transport.kafka_sink import KafkaSink
from streamer.transport.kafka_source import KafkaSource
from streamer.transport.kafka_transactions import KafkaTransactionalSink
from streamer.transport.memory import MemoryBroker, MemorySink, MemorySource
from streamer.transport.memory_transactions import MemoryTransactionalSink

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

LIMIT_BYTES = 1_000_000


class Read(NamedTuple):
    """A message as a reader finds it."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None


class Listener(GroupListener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.assigned: list[Partition] = []
        self.revoked: list[Partition] = []
        self.lost: list[Partition] = []
        self.committed: list[Offsets] = []
        self.while_revoking: Callable[[], None] = lambda: None

    def on_assigned(self, partitions: Collection[Partition]) -> None:
        self.assigned += partitions

    def on_revoked(self, partitions: Collection[Partition]) -> None:
        self.revoked += partitions
        self.while_revoking()

    def on_lost(self, partitions: Collection[Partition]) -> None:
        self.lost += partitions

    def on_committed(self, offsets: Offsets) -> None:
        self.committed.append(offsets)


class Transport(ABC):
    """One kind of broker with its source and sink. All that is made here is closed after the test."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._sinks: list[Sink] = []

    @abstractmethod
    def topic(self, name: str) -> str:
        """Make a topic of 4 partitions."""

    @abstractmethod
    def produce(self, messages: Sequence[Outbound], partition: int) -> None: ...

    @abstractmethod
    def read(self, topic: str) -> list[Read]: ...

    @abstractmethod
    def make_source(self, topics: Sequence[str], group: str, reset: OffsetReset) -> Source: ...

    @abstractmethod
    def make_sink(self) -> Sink: ...

    @abstractmethod
    def make_transactional_sink(self, transactional_id: str) -> TransactionalSink: ...

    def source(self, topics: Sequence[str], group: str, reset: OffsetReset = "earliest") -> Source:
        source = self.make_source(topics, group, reset)
        self._sources.append(source)
        return source

    def sink(self) -> Sink:
        sink = self.make_sink()
        self._sinks.append(sink)
        return sink

    def transactional_sink(self, transactional_id: str) -> TransactionalSink:
        sink = self.make_transactional_sink(transactional_id)
        self._sinks.append(sink)
        return sink

    def settle(self, settling: Settling, timeout_s: float = 30) -> None:
        """Wait until a commit or an abort is done."""
        deadline = time.monotonic() + timeout_s
        while not settling.wait(0.05):
            assert time.monotonic() < deadline, "it is never done"

    def close(self) -> None:
        for source in self._sources:
            source.close()
        for sink in self._sinks:
            sink.close()

    def fill(self, topic: str, values: Sequence[bytes], partition: int = 0) -> None:
        self.produce([Outbound(topic, None, value, (), None, False) for value in values], partition)

    def collect(self, source: Source, count: int, timeout_s: float = 30) -> list[Envelope[None]]:
        """Exactly the next `count` records."""
        records: list[Envelope[None]] = []
        deadline = time.monotonic() + timeout_s
        while len(records) < count:
            assert time.monotonic() < deadline, f"{len(records)} of {count} records came"
            records += source.poll(count - len(records), 0.05)
        return records

    def nothing_comes(self, source: Source, for_s: float = 0.7) -> None:
        deadline = time.monotonic() + for_s
        while time.monotonic() < deadline:
            assert source.poll(100, 0.05) == []
            if isinstance(source, MemorySource):
                return

    def until(self, source: Source, holds: Callable[[], bool], timeout_s: float = 30) -> None:
        """Poll, and drop what comes, until something holds."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, "it never came true"
            source.poll(100, 0.05)

    def deliver(self, sink: Sink, messages: Sequence[Outbound]) -> list[DeliveryOutcome]:
        """Send messages, and return their reports in the order of sending."""
        reports: dict[int, DeliveryOutcome] = {}
        for number, message in enumerate(messages):
            sink.send(message, lambda outcome, number=number: reports.setdefault(number, outcome))  # type: ignore[misc]
        assert sink.flush(30) == 0
        return [reports[number] for number in range(len(messages))]


class MemoryTransport(Transport):
    def __init__(self) -> None:
        super().__init__()
        self._broker = MemoryBroker(partitions=4, max_message_bytes=LIMIT_BYTES, now_ms=lambda: int(time.time() * 1000))

    def topic(self, name: str) -> str:
        self._broker.create_topic(name)
        return name

    def produce(self, messages: Sequence[Outbound], partition: int) -> None:
        for m in messages:
            self._broker.produce(
                m.topic, m.value, key=m.key, headers=m.headers, timestamp_ms=m.timestamp_ms, partition=partition
            )

    def read(self, topic: str) -> list[Read]:
        return [Read(m.key, m.value, m.headers, m.timestamp_ms) for m in self._broker.messages(topic).values()]

    def make_source(self, topics: Sequence[str], group: str, reset: OffsetReset) -> Source:
        return MemorySource(broker=self._broker, group_id=group, topics=topics, auto_offset_reset=reset)

    def make_sink(self) -> Sink:
        return MemorySink(broker=self._broker)

    def make_transactional_sink(self, transactional_id: str) -> TransactionalSink:
        return MemoryTransactionalSink(broker=self._broker, looks=2)


class KafkaTransport(Transport):
    def __init__(self, road: RoadBroker, group_protocol: GroupProtocol) -> None:
        super().__init__()
        self._road = road
        self._protocol = group_protocol

    def topic(self, name: str) -> str:
        return self._road.create_topic(name)

    def produce(self, messages: Sequence[Outbound], partition: int) -> None:
        self._road.produce(messages, partition)

    def read(self, topic: str) -> list[Read]:
        return [
            Read(m.key(), m.value(), tuple(m.headers() or ()), m.timestamp()[1])  # type: ignore[arg-type]
            for m in self._road.read_all(topic)
        ]

    def make_source(self, topics: Sequence[str], group: str, reset: OffsetReset) -> Source:
        return KafkaSource(
            bootstrap_servers=self._road.bootstrap_servers,
            group_id=group,
            topics=topics,
            properties=self._road.properties(self._protocol),
            auto_offset_reset=reset,
            group_protocol=self._protocol,
            group_instance_id=None,
            fetch_memory_mb=8,
        )

    def make_sink(self) -> Sink:
        return KafkaSink(
            bootstrap_servers=self._road.bootstrap_servers,
            properties=self._road.properties(self._protocol),
            buffer_memory_mb=8,
            topics={},
        )

    def make_transactional_sink(self, transactional_id: str) -> TransactionalSink:
        return KafkaTransactionalSink(
            bootstrap_servers=self._road.bootstrap_servers,
            properties=self._road.properties(self._protocol),
            buffer_memory_mb=8,
            topics={},
            transactional_id=transactional_id,
            transaction_timeout_s=10,
            commit_deadline_s=20,
        )


@pytest.fixture(
    params=[
        "memory",
        "embedded_road/consumer",
        pytest.param("kafka_road/classic", marks=pytest.mark.kafka),
        pytest.param("kafka_road/consumer", marks=pytest.mark.kafka),
    ]
)
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """The group protocol stands behind the broker. The embedded broker runs the quick one here; its classic groups,
    which take 3 s to form, have tests of their own."""
    yield from _made(request)


def _made(request: pytest.FixtureRequest) -> Iterator[Transport]:
    made: Transport
    if request.param == "memory":
        made = MemoryTransport()
    else:
        road, protocol = request.param.split("/")
        made = KafkaTransport(request.getfixturevalue(road), protocol)
    yield made
    made.close()


@pytest.fixture(
    params=[
        "memory",
        pytest.param("kafka_road/classic", marks=pytest.mark.kafka),
        pytest.param("kafka_road/consumer", marks=pytest.mark.kafka),
    ]
)
def transactions(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """Transports with transactions: the embedded broker has none that hold anything back."""
    yield from _made(request)


@pytest.fixture
def listener() -> Listener:
    return Listener()
