"""Where events of a replay go."""

from __future__ import annotations

from streamer.records import Outbound
from streamer.replay.run import SideSink
from streamer.transport.base import DeliveryOutcome, OnDelivered

EVENT = Outbound("tickets.billing", b"k", b"{}", (), 5, dead_letter=False)
LETTER = Outbound("tickets.dead", b"k", b"<", (), 5, dead_letter=True)


class Kept:
    """A Sink that keeps messages, and acknowledges them when flushed."""

    def __init__(self) -> None:
        self.messages: list[Outbound] = []
        self.closed = False
        self.full = False
        self._waiting: list[OnDelivered] = []

    def send(self, message: Outbound, on_delivered: OnDelivered) -> None:
        self.messages.append(message)
        self._waiting.append(on_delivered)

    def flush(self, timeout_s: float) -> int:
        while self._waiting:
            self._waiting.pop()(None)
        return 0

    def close(self) -> None:
        self.closed = True


def test_events_go_to_the_side_topic_and_dead_letters_nowhere() -> None:
    outcomes: list[DeliveryOutcome] = []
    kept = Kept()
    sink = SideSink(kept, to="side", dead_letter=None)
    sink.send(EVENT, outcomes.append)
    sink.send(LETTER, outcomes.append)
    assert outcomes == []
    assert sink.flush(0.0) == 0
    assert outcomes == [None, None]
    assert kept.messages == [EVENT._replace(topic="side")]
    sink.close()
    assert kept.closed


def test_dead_letters_go_to_a_topic_of_their_own() -> None:
    kept = Kept()
    sink = SideSink(kept, to="side", dead_letter="side.dead")
    sink.send(LETTER, lambda outcome: None)
    assert kept.messages == [LETTER._replace(topic="side.dead")]
