"""Questions to a Kafka cluster that the command line asks before it starts, and topics for try-outs.

Enters: an address and properties. Leaves: plain facts, or a UsageError that says what to change. Every question is
bounded in time. Must not know: the pipeline, records.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from streamer.errors import UsageError
from streamer.transport.kafka_client import Failures, Properties, code, configuration, connect, reason

_PAUSE_S = 0.02
_UNLIMITED_MS = 1 << 62  # brokers say "no limit" by the largest 64 bit number


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """A cluster that answers: its id (None where it gives none) and its brokers as host:port."""

    cluster_id: str | None
    brokers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic that exists. All but `partitions` is None where the user may not read it or the broker does not tell.

    `timestamp_after_max_ms`, `timestamp_before_max_ms`: how far a message's timestamp may lie in the future and in
    the past of the broker's clock; None also where there is no limit.
    """

    partitions: int
    cleanup_policy: str | None
    max_message_bytes: int | None
    timestamp_after_max_ms: int | None
    timestamp_before_max_ms: int | None

    @property
    def compacted(self) -> bool:
        """Whether messages without a key are refused."""
        return "compact" in (self.cleanup_policy or "")


def describe_cluster(bootstrap_servers: str, properties: Properties, timeout_s: float) -> ClusterFacts:
    """Reach the cluster. Raises UsageError with the client's reason when it cannot be reached in `timeout_s`."""
    metadata = _Admin(bootstrap_servers, properties, timeout_s).metadata()
    brokers = tuple(f"{broker.host}:{broker.port}" for broker in metadata.brokers.values())
    return ClusterFacts(metadata.cluster_id, brokers)


def topic_facts(
    bootstrap_servers: str, properties: Properties, topics: Collection[str], timeout_s: float
) -> dict[str, TopicFacts]:
    """Facts of those of `topics` that exist and that this user may see.

    Raises UsageError when the cluster cannot be reached in `timeout_s`.
    """
    admin = _Admin(bootstrap_servers, properties, timeout_s)
    # all topics are listed, because a question for one topic makes it on a broker that creates topics by itself
    found = {name: topic for name, topic in admin.metadata().topics.items() if name in topics and topic.error is None}
    settings = admin.topic_settings(found)
    facts: dict[str, TopicFacts] = {}
    for name, topic in found.items():
        read = settings[name]
        stamped_by_client = read.get("message.timestamp.type") == "CreateTime"
        facts[name] = TopicFacts(
            partitions=len(topic.partitions),
            cleanup_policy=read.get("cleanup.policy"),
            max_message_bytes=_number(read.get("max.message.bytes")),
            timestamp_after_max_ms=_number(read.get("message.timestamp.after.max.ms")) if stamped_by_client else None,
            timestamp_before_max_ms=_number(read.get("message.timestamp.before.max.ms")) if stamped_by_client else None,
        )
    return facts


def create_topics(
    bootstrap_servers: str,
    properties: Properties,
    topics: Mapping[str, int],
    settings: Mapping[str, str],
    timeout_s: float,
) -> None:
    """Make topics (name -> partitions) with these topic settings and the broker's default replication, and wait until
    they can be seen; those that exist stay as they are. Raises UsageError when the broker refuses, and when the topics
    cannot be seen in `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    admin = _Admin(bootstrap_servers, properties, timeout_s)
    wanted = [NewTopic(name, partitions, -1, config=dict(settings)) for name, partitions in topics.items()]
    pending: dict[str, Future[Any]] = admin.client.create_topics(wanted, request_timeout=timeout_s)
    for name, answer in pending.items():
        try:
            answer.result()
        except KafkaException as error:
            if code(error) != KafkaError.TOPIC_ALREADY_EXISTS:
                raise UsageError(f"topic {name!r} cannot be created at {bootstrap_servers}: {reason(error)}") from None
    while not topics.keys() <= admin.metadata().topics.keys():
        if time.monotonic() > deadline:
            raise UsageError(f"topics {', '.join(topics)} were created at {bootstrap_servers} but cannot be seen there")
        time.sleep(_PAUSE_S)


class _Admin:
    """An admin client that remembers why it cannot connect: requests alone only time out."""

    def __init__(self, bootstrap_servers: str, properties: Properties, timeout_s: float) -> None:
        self._errors: list[KafkaError] = []
        self._bootstrap_servers = bootstrap_servers
        self._timeout_s = timeout_s
        config = configuration(bootstrap_servers, properties, {"error_cb": self._errors.append})
        self.client: AdminClient = connect(AdminClient, config)

    def metadata(self) -> Any:
        """Brokers and topics. Raises UsageError."""
        try:
            return self.client.list_topics(timeout=self._timeout_s)
        except KafkaException as error:
            raise self._unreachable(error) from None

    def topic_settings(self, topics: Collection[str]) -> dict[str, dict[str, str]]:
        """Settings of each topic by name; empty where they cannot be read."""
        if not topics:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        pending: dict[ConfigResource, Future[dict[str, Any]]] = self.client.describe_configs(
            resources, request_timeout=self._timeout_s
        )
        read: dict[str, dict[str, str]] = {name: {} for name in topics}
        for resource, answer in pending.items():
            with contextlib.suppress(KafkaException):
                read[resource.name] = {name: entry.value for name, entry in answer.result().items()}
        return read

    def _unreachable(self, error: KafkaException) -> UsageError:
        self.client.poll(0)  # error_cb runs only here
        failures = Failures(self._bootstrap_servers)
        for known in map(failures.reaction, [*self._errors, error.args[0]]):
            if isinstance(known, UsageError):
                return known
        causes = [reason(seen) for seen in self._errors if seen.code() != KafkaError._ALL_BROKERS_DOWN]
        return UsageError(
            f"cannot reach Kafka at {self._bootstrap_servers}: {causes[-1] if causes else reason(error)}; "
            "check kafka.bootstrap_servers, the security properties, and that the broker runs"
        )


def _number(text: str | None) -> int | None:
    return None if text is None or int(text) >= _UNLIMITED_MS else int(text)
