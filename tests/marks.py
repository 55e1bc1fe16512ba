"""Waiting for the marks that end transactions: a broker writes them after it has answered the commit."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, TopicPartition


def until_marked(bootstrap_servers: str, *topics: str, timeout_s: float = 30) -> None:
    """Return when no transaction is open in the topics; fails when that takes longer than `timeout_s`."""
    readers = [
        Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "marks", "isolation.level": level})
        for level in ("read_committed", "read_uncommitted")
    ]
    try:
        described = readers[0].list_topics(timeout=timeout_s).topics
        parts = [TopicPartition(topic, part) for topic in topics for part in described[topic].partitions]
        deadline = time.monotonic() + timeout_s
        for part in parts:
            while len({reader.get_watermark_offsets(part, timeout_s)[1] for reader in readers}) > 1:
                assert time.monotonic() < deadline, f"{topics}: a transaction is still open"
                time.sleep(0.02)
    finally:
        for reader in readers:
            reader.close()
