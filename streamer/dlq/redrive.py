"""Dead letters sent again: which may be, what is sent, and that each is sent once.

Enters: DeadLetters. Leaves: the input's key, value and headers on its topic, acknowledged and noted in the Ledger.
Must not know: where dead letters are read, terminals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from threading import Event

from streamer.dlq.ledger import Ledger
from streamer.dlq.letters import REDRIVE_COUNT, REDRIVE_OF, DeadLetter
from streamer.errors import FatalError, StreamerError
from streamer.feed import Pace
from streamer.records import Outbound
from streamer.transport.base import DeliveryOutcome, Refused, Sink

BATCH = 500  # sent, acknowledged and noted together: the most that a kill can make a second run repeat
FLUSH_S = 0.1
SETTLE_S = 10.0
REFUSALS_TOLD = 5


class Held(Enum):
    """Why a dead letter is not sent."""

    BEFORE = "redriven before (--again sends them all the same)"
    OFTEN = "redriven as often as --max-redrives allows: mend the cause first"
    CUT = "not whole any more (cut for their size): send these again from where they came from"
    NO_TARGET = "from a topic that is not an input of the settings: name it with --source-topic, or give --to"
    FOREIGN = "no dead letters of streamer: without its headers"
    REFUSED = "refused by the broker"
    MISSING = "not found among the dead letters"

    @property
    def failed(self) -> bool:
        """Whether somebody must look at it: what was redriven before has got what was asked for."""
        return self is not Held.BEFORE


@dataclass(frozen=True, slots=True)
class Orders:
    """Where dead letters may go: to `to`, or else back to where they came from, if that is one of the `inputs` of
    their dead-letter topic."""

    to: str | None
    inputs: Mapping[str, frozenset[str]]
    max_redrives: int
    again: bool

    def judge(self, letter: DeadLetter, ledger: Ledger) -> Outbound | Held:
        """What to send, or why not to. Raises as Ledger.has."""
        if not self.again and ledger.has(letter.at):
            return Held.BEFORE
        if letter.source is None:
            return Held.FOREIGN
        if letter.cuts:
            return Held.CUT
        if self.to is None and letter.source.topic not in self.inputs[letter.at.topic]:
            return Held.NO_TARGET
        if letter.redrives >= self.max_redrives:
            return Held.OFTEN
        headers = tuple(header for header in letter.headers if header[0] != REDRIVE_COUNT)
        marks = ((REDRIVE_OF, str(letter.at).encode()), (REDRIVE_COUNT, str(letter.redrives + 1).encode()))
        # stamped anew: by its old time the record might be past the topic's retention already
        return Outbound(
            self.to or letter.source.topic, letter.key, letter.value, (*headers, *marks), None, dead_letter=False
        )


class Tally:
    """What came of the dead letters: sent (or to be sent) by code and target, and the others by reason."""

    def __init__(self) -> None:
        self.sent: Counter[tuple[str, str]] = Counter()
        self.held: Counter[Held] = Counter()
        self.refusals: list[str] = []

    @property
    def sent_records(self) -> int:
        return self.sent.total()

    @property
    def failed(self) -> bool:
        return any(held.failed for held in self.held)


class Redrive:
    """Sends batches: each is acknowledged and noted before the next one begins. `stop` ends it between two records,
    with a KeyboardInterrupt, when what was sent is acknowledged and noted."""

    def __init__(self, *, sink: Sink, ledger: Ledger, pace: Pace, batch: int, stop: Event) -> None:
        self._sink = sink
        self._ledger = ledger
        self._pace = pace
        self._batch = batch
        self._stop = stop
        self._queue: list[tuple[DeadLetter, Outbound]] = []
        self._failure: Exception | None = None
        self.tally = Tally()

    def add(self, letter: DeadLetter, message: Outbound) -> None:
        """Send it, with its batch. Raises DeliveryError and what else stops a sink, FatalError when another redrive
        is under way, KeyboardInterrupt; what was acknowledged until then is noted."""
        self._queue.append((letter, message))
        if len(self._queue) >= self._batch:
            self.finish()

    def finish(self) -> None:
        """Send what waits, and return when all of it is acknowledged and noted. Raises as `add`."""
        batch, self._queue = self._queue, []
        if not batch:
            return
        self._ledger.confirm(letter.at for letter, _ in batch)
        try:
            for letter, message in batch:
                self._pace.wait()
                if self._stop.is_set():
                    break
                self._sink.send(message, partial(self._on_delivered, letter, message))
                self._raise_failure()
            while self._sink.flush(FLUSH_S):
                self._raise_failure()
            self._raise_failure()
        finally:
            try:
                self._sink.flush(SETTLE_S)  # after a failure: what is on its way arrives all the same
            finally:
                self._note()
        if self._stop.is_set():
            raise KeyboardInterrupt

    def _note(self) -> None:
        try:
            self._ledger.save()
        except StreamerError as error:
            raise FatalError(
                f"{self.tally.sent_records} records were sent, but the last of them could not be noted, "
                f"so that another redrive would send up to {self._batch} again: {error}"
            ) from None

    def _on_delivered(self, letter: DeadLetter, message: Outbound, outcome: DeliveryOutcome) -> None:
        if outcome is None:
            self._ledger.add(letter.at)
            self.tally.sent[letter.code, message.topic] += 1
        elif isinstance(outcome, Refused):
            self.tally.held[Held.REFUSED] += 1
            if len(self.tally.refusals) < REFUSALS_TOLD:
                self.tally.refusals.append(f"{letter.at}: topic '{message.topic}': {outcome.reason}")
        else:
            self._failure = outcome

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
