"""What every Sink must do, whatever stands behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamer.records import Outbound
from streamer.transport.base import DeliveryOutcome, Refused

if TYPE_CHECKING:
    from tests.contracts.conftest import Transport


def message(topic: str, value: bytes | None, key: bytes | None = None) -> Outbound:
    return Outbound(topic, key, value, (), None, False)


def test_each_message_is_acknowledged_once_and_stays(transport: Transport, unique: str) -> None:
    topic = transport.topic(unique)
    sink = transport.sink()
    reports: list[tuple[int, DeliveryOutcome]] = []
    for number in range(300):
        sink.send(message(topic, b"%d" % number, b"same"), lambda outcome, n=number: reports.append((n, outcome)))  # type: ignore[misc]
    assert sink.flush(30) == 0
    assert sink.flush(0) == 0
    assert reports == [(number, None) for number in range(300)]
    assert [read.value for read in transport.read(topic)] == [b"%d" % number for number in range(300)]


def test_a_message_keeps_all_it_carries(transport: Transport, unique: str) -> None:
    topic = transport.topic(unique)
    sent = [
        Outbound(topic, b"k", b"v", (("a", b"1"), ("a", None), ("b", b"")), 1_700_000_000_123, False),
        Outbound(topic, b"k", None, (), 1_600_000_000_000, True),
        Outbound(topic, b"k", b"", (("ü", "é".encode()),), 1_700_000_000_001, False),
    ]
    assert transport.deliver(transport.sink(), sent) == [None, None, None]
    assert transport.read(topic) == [(m.key, m.value, m.headers, m.timestamp_ms) for m in sent]


def test_a_message_too_large_is_refused_and_the_others_are_not(transport: Transport, unique: str) -> None:
    topic = transport.topic(unique)
    sent = [message(topic, b"before"), message(topic, bytes(1_100_000)), message(topic, b"after")]
    outcomes = transport.deliver(transport.sink(), sent)
    assert [type(outcome) for outcome in outcomes] == [type(None), Refused, type(None)]
    assert isinstance(outcomes[1], Refused)
    assert outcomes[1].reason
    assert {read.value for read in transport.read(topic)} == {b"before", b"after"}


def test_no_report_comes_before_send_returns(transport: Transport, unique: str) -> None:
    topic = transport.topic(unique)
    sink = transport.sink()
    returned: list[bool] = []
    reported_after: list[bool] = []
    for value in (b"fine", bytes(1_100_000)):
        returned.clear()
        sink.send(message(topic, value), lambda outcome: reported_after.append(bool(returned)))
        returned.append(True)
        assert sink.flush(30) == 0
    assert reported_after == [True, True]


def test_closing_gives_up_without_a_report(transport: Transport, unique: str) -> None:
    topic = transport.topic(unique)
    sink = transport.sink()
    reports: list[DeliveryOutcome] = []
    sink.send(message(topic, b"v"), reports.append)
    sink.close()
    sink.close()
    assert reports == []
