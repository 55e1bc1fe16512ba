"""A broker inside this process, for the demo and for tests: librdkafka's mock cluster.

Enters: a number of brokers. Leaves: an address that any Kafka client of this computer can connect to. It has groups,
rebalances, commits and idempotent producers; it does not isolate transactions, keeps 5 MiB a partition, and ends with
the process. Must not know: records, the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from confluent_kafka import Producer

from streamer.transport.kafka_client import GroupProtocol, Properties

_TIMEOUT_S = 10.0


class EmbeddedBroker:
    """Starts when made, stops at `close` or at the end of its `with` block. Close its clients first."""

    def __init__(self, *, brokers: int) -> None:
        # the mock cluster hangs on a client instance, and its own log is of no use to anybody
        self._producer = Producer({"test.mock.num.brokers": brokers, "log_level": 0})
        members = self._producer.list_topics(timeout=_TIMEOUT_S).brokers.values()
        self.bootstrap_servers = ",".join(f"{member.host}:{member.port}" for member in members)

    def create_topics(self, topics: Iterable[str]) -> None:
        """Make topics of 4 partitions; those that exist stay as they are."""
        for topic in topics:
            self._producer.list_topics(topic, timeout=_TIMEOUT_S)

    def client_properties(self, group_protocol: GroupProtocol) -> Properties:
        """What clients of this broker need. Members of a classic group wait 3 s to join, those of the consumer
        protocol join at once."""
        quiet: dict[str, str | int | float | bool] = {"log.connection.close": False}
        if group_protocol == "consumer":
            return quiet
        # the mock answers a classic rebalance only in heartbeats, and takes no longer sessions
        return quiet | {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300}

    def close(self) -> None:
        self._producer.close()

    def __enter__(self) -> EmbeddedBroker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
