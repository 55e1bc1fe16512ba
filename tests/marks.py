"""Waiting for the marks that end transactions: a broker writes them after it has answered the commit."""

from __future__ import annotations

import time

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec


def until_marked(bootstrap_servers: str, *topics: str, timeout_s: float = 30) -> None:
    """Return when no transaction is open in the topics; fails when that takes longer than `timeout_s`."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    parts = [
        TopicPartition(topic, part)
        for topic in topics
        for part in admin.list_topics(topic, timeout=timeout_s).topics[topic].partitions
    ]

    def ends(level: IsolationLevel) -> list[int]:
        asked = dict.fromkeys(parts, OffsetSpec.latest())
        return [one.result().offset for one in admin.list_offsets(asked, isolation_level=level).values()]

    deadline = time.monotonic() + timeout_s
    while ends(IsolationLevel.READ_COMMITTED) != ends(IsolationLevel.READ_UNCOMMITTED):
        assert time.monotonic() < deadline, f"{topics}: a transaction is still open"
        time.sleep(0.02)
