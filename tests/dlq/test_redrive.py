"""What may be sent again, what is sent, and that what was sent is noted whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest

from streamer.dlq.ledger import Ledger
from streamer.dlq.letters import DeadLetter
from streamer.dlq.redrive import Held, Orders, Redrive
from streamer.errors import DeliveryError, FatalError, TransientError
from streamer.feed import Pace
from streamer.records import Outbound, Partition
from streamer.transport.base import DeliveryOutcome, Refused
from streamer.transport.memory import MemoryBroker, MemorySink

Make = Callable[..., DeadLetter]
BACK = Orders(to=None, inputs={"dead": frozenset({"in"})}, max_redrives=3, again=False)


class Shelf:
    """Notes in memory, that can be told to fail."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, Partition], str] = {}
        self.writes = 0
        self.broken = False

    def read(self, group: str, at: Partition) -> str:
        return self.texts.get((group, at), "")

    def write(self, group: str, at: Partition, offset: int, text: str) -> None:
        if self.broken:
            raise TransientError("the coordinator is away")
        self.writes += 1
        self.texts[group, at] = text


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def broker(deliver: Callable[[Outbound], DeliveryOutcome] = lambda message: None) -> MemoryBroker:
    return MemoryBroker(partitions=1, max_message_bytes=1000, now_ms=lambda: 1, deliver=deliver)


def redriving(
    to: MemoryBroker,
    shelf: Shelf,
    batch: int = 2,
    rate: float | None = None,
    sleep: Callable[[float], None] = print,
    stop: Event | None = None,
) -> Redrive:
    pace = Pace(rate=rate, clock=lambda: 0.0, sleep=sleep)
    return Redrive(
        sink=MemorySink(broker=to), ledger=Ledger(shelf), pace=pace, batch=batch, stop=Event() if stop is None else stop
    )


def send(redrive: Redrive, letters: list[DeadLetter], shelf: Shelf) -> None:
    for one in letters:
        message = BACK.judge(one, Ledger(shelf))
        assert isinstance(message, Outbound)
        redrive.add(one, message)
    redrive.finish()


def noted(shelf: Shelf, letters: list[DeadLetter]) -> list[int]:
    return [one.at.offset for one in letters if Ledger(shelf).has(one.at)]


def test_the_input_goes_back_as_it_was_with_two_more_headers(letter: Make, shelf: Shelf) -> None:
    assert BACK.judge(letter(), Ledger(shelf)) == Outbound(
        "in", b"key", b"{", (("trace", b"1"), ("redrive-of", b"dead-0-5"), ("redrive-count", b"1")), None, False
    )
    nothing = BACK.judge(letter(key=None, value=None, headers=()), Ledger(shelf))
    assert isinstance(nothing, Outbound)
    assert (nothing.key, nothing.value) == (None, None)


def test_the_chain_of_redrives_is_kept(letter: Make, shelf: Shelf) -> None:
    before = (("redrive-of", b"dead-0-1"), ("redrive-count", b"1"))
    message = BACK.judge(letter(headers=before, redrives=1), Ledger(shelf))
    assert isinstance(message, Outbound)
    assert message.headers == (("redrive-of", b"dead-0-1"), ("redrive-of", b"dead-0-5"), ("redrive-count", b"2"))


@pytest.mark.parametrize(
    ("changed", "held"),
    [
        ({"cuts": ("the value is cut",)}, Held.CUT),
        ({"source": None}, Held.FOREIGN),
        ({"redrives": 3}, Held.OFTEN),
    ],
)
def test_what_is_not_sent(letter: Make, shelf: Shelf, changed: dict[str, object], held: Held) -> None:
    for to in (None, "elsewhere"):
        orders = Orders(to, BACK.inputs, max_redrives=3, again=True)
        assert orders.judge(letter(**changed), Ledger(shelf)) is held
    assert held.failed


def test_only_topics_that_are_named_get_something(letter: Make, shelf: Shelf) -> None:
    unnamed = Orders(None, {"dead": frozenset({"other"})}, 3, False)
    assert unnamed.judge(letter(), Ledger(shelf)) is Held.NO_TARGET
    message = Orders("elsewhere", {"dead": frozenset()}, 3, False).judge(letter(), Ledger(shelf))
    assert isinstance(message, Outbound)
    assert message.topic == "elsewhere"


def test_what_was_redriven_is_sent_again_only_when_told(letter: Make, shelf: Shelf) -> None:
    send(redriving(broker(), shelf), [letter()], shelf)
    assert BACK.judge(letter(), Ledger(shelf)) is Held.BEFORE
    assert not Held.BEFORE.failed
    again = Orders(None, BACK.inputs, 3, again=True)
    assert isinstance(again.judge(letter(), Ledger(shelf)), Outbound)


def test_batches_are_acknowledged_and_noted(letter: Make, shelf: Shelf) -> None:
    to = broker()
    letters = [letter(offset, value=b"%d" % offset) for offset in range(5)]
    redrive = redriving(to, shelf)
    send(redrive, letters, shelf)
    assert [stored.value for stored in to.messages("in").values()] == [b"0", b"1", b"2", b"3", b"4"]
    assert noted(shelf, letters) == [0, 1, 2, 3, 4]
    assert shelf.writes == 3
    assert dict(redrive.tally.sent) == {("not_json", "in"): 5}
    assert not redrive.tally.failed


def test_a_refused_record_is_told_and_the_others_go(letter: Make, shelf: Shelf) -> None:
    to = broker(lambda message: Refused("too large") if message.value == b"1" else None)
    letters = [letter(offset, value=b"%d" % offset) for offset in range(3)]
    redrive = redriving(to, shelf)
    send(redrive, letters, shelf)
    assert noted(shelf, letters) == [0, 2]
    assert redrive.tally.held == {Held.REFUSED: 1}
    assert redrive.tally.refusals == ["dead-0-1: topic 'in': too large"]
    assert redrive.tally.failed


def test_a_broken_sink_ends_it_and_what_arrived_is_noted(letter: Make, shelf: Shelf) -> None:
    to = broker(lambda message: DeliveryError("gone") if message.value == b"3" else None)
    letters = [letter(offset, value=b"%d" % offset) for offset in range(8)]
    redrive = redriving(to, shelf, batch=100)
    with pytest.raises(DeliveryError, match="gone"):
        send(redrive, letters, shelf)
    arrived = [int(stored.value or b"") for stored in to.messages("in").values()]
    assert noted(shelf, letters) == arrived
    assert redrive.tally.sent_records == len(arrived)


def test_a_stop_ends_it_and_what_arrived_is_noted(letter: Make, shelf: Shelf) -> None:
    to, stop = broker(), Event()
    letters = [letter(offset) for offset in range(8)]
    redrive = redriving(to, shelf, batch=100, rate=1.0, sleep=lambda seconds: stop.set(), stop=stop)
    with pytest.raises(KeyboardInterrupt):
        send(redrive, letters, shelf)
    assert noted(shelf, letters) == [0]
    assert len(to.messages("in")) == 1


def test_notes_that_fail_are_told(letter: Make, shelf: Shelf) -> None:
    shelf.broken = True
    redrive = redriving(broker(), shelf)
    with pytest.raises(FatalError, match=r"2 records were sent, but .* could not be noted, .* send up to 2 again: the"):
        send(redrive, [letter(offset) for offset in range(3)], shelf)


def test_another_redrive_is_found_out_before_anything_is_sent(letter: Make, shelf: Shelf) -> None:
    to = broker()
    late = redriving(to, shelf, batch=1)
    send(late, [letter(0)], shelf)
    send(redriving(to, shelf), [letter(1)], shelf)
    with pytest.raises(FatalError, match="another redrive of 'dead' is under way"):
        send(late, [letter(2)], shelf)
    assert len(to.messages("in")) == 2
