"""What is Kafka's own about the sink: backpressure, and refusals known beforehand."""

from __future__ import annotations

import time

import pytest

from streamer.errors import DeliveryError
from streamer.records import Outbound
from streamer.transport.base import DeliveryOutcome, Refused
from streamer.transport.embedded import EmbeddedBroker
from streamer.transport.kafka_admin import TopicFacts
from streamer.transport.kafka_sink import KafkaSink

FREE = TopicFacts(4, "delete", None, None, None)


def message(topic: str, key: bytes | None = None, timestamp_ms: int | None = None) -> Outbound:
    return Outbound(topic, key, b"v", (), timestamp_ms, False)


def test_a_full_queue_waits_and_drops_nothing(embedded_broker: EmbeddedBroker, unique: str) -> None:
    sink = KafkaSink(
        bootstrap_servers=embedded_broker.bootstrap_servers,
        properties={"queue.buffering.max.messages": 10},
        buffer_memory_mb=8,
        topics={},
    )
    reports: list[DeliveryOutcome] = []
    for _ in range(300):
        sink.send(message(unique), reports.append)
    assert len(reports) >= 290, "the queue holds 10"
    assert sink.flush(10) == 0
    assert reports == [None] * 300
    sink.close()


def test_a_look_at_reports_does_not_send_what_lingers(embedded_broker: EmbeddedBroker, unique: str) -> None:
    sink = KafkaSink(
        bootstrap_servers=embedded_broker.bootstrap_servers,
        properties={"linger.ms": 60_000},
        buffer_memory_mb=8,
        topics={},
    )
    reports: list[DeliveryOutcome] = []
    sink.send(message(unique), reports.append)
    looked_until = time.monotonic() + 0.3
    while time.monotonic() < looked_until:
        assert sink.flush(0) == 1
    assert sink.flush(10) == 0
    assert reports == [None]
    sink.close()


def test_what_is_not_delivered_in_time_has_failed() -> None:
    sink = KafkaSink(
        bootstrap_servers="127.0.0.1:1",
        properties={"message.timeout.ms": 200},
        buffer_memory_mb=8,
        topics={},
    )
    reports: list[DeliveryOutcome] = []
    sink.send(message("t"), reports.append)
    assert sink.flush(0.01) == 1
    deadline_s = time.monotonic() + 30
    while sink.flush(1.0):
        assert time.monotonic() < deadline_s
    assert isinstance(reports[0], DeliveryError)
    assert "topic 't'" in str(reports[0])
    sink.close()


@pytest.mark.parametrize(
    ("facts", "sent", "words"),
    [
        (TopicFacts(4, "compact,delete", None, None, None), {"key": None}, "without a key"),
        (TopicFacts(4, "delete", None, 60_000, None), {"key": b"k", "ahead_ms": 120_000}, "in the future"),
        (TopicFacts(4, "delete", None, None, 60_000), {"key": b"k", "ahead_ms": -120_000}, "in the past"),
    ],
)
def test_what_a_topic_is_known_to_refuse_is_not_sent(
    embedded_broker: EmbeddedBroker, unique: str, facts: TopicFacts, sent: dict[str, object], words: str
) -> None:
    free = f"{unique}-free"
    sink = KafkaSink(
        bootstrap_servers=embedded_broker.bootstrap_servers,
        properties={},
        buffer_memory_mb=8,
        topics={unique: facts, free: FREE},
    )
    ahead_ms = sent.get("ahead_ms")
    timestamp_ms = int(time.time() * 1000) + ahead_ms if isinstance(ahead_ms, int) else None
    key = b"k" if sent["key"] else None
    reports: list[DeliveryOutcome] = []
    sink.send(message(unique, key, timestamp_ms), reports.append)
    sink.send(message(free, key, timestamp_ms), reports.append)
    sink.send(message(unique, b"k", int(time.time() * 1000)), reports.append)
    sink.send(message(unique, b"k"), reports.append)
    assert sink.flush(10) == 0
    refused = [report for report in reports if report is not None]
    assert len(reports) == 4
    assert len(refused) == 1
    assert isinstance(refused[0], Refused)
    assert words in refused[0].reason
    sink.close()
