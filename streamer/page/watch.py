"""What the live page takes from the loop itself: a few records a second, dead letters, latencies, why a reload failed.

Enters: hooks of `observe.Observer`. Leaves: bounded memory that another thread reads. Counts come from the metrics, not
from here, so that both show the same. Must not know: HTTP, who looks.

There are no locks: the loop's thread appends or replaces whole values and the reader copies in one step, which the GIL
makes atomic. Texts are kept only where the settings allow them to be shown; keys and headers never are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from streamer.facets import LabelSet
from streamer.observe import Observer
from streamer.records import Decided, Document, Envelope, Position, Reject, Verdict
from streamer.telemetry.logs import mask_secrets

KEPT_RECORDS, KEPT_REJECTS, KEPT_LATENCIES = 40, 20, 2048
RECORDS_PER_TICK, RECORDS_PER_WINDOW = 4, 2
TEXT_CHARACTERS, MESSAGE_CHARACTERS, REASON_CHARACTERS = 400, 200, 600


class SeenRecord(NamedTuple):
    """A record that was labelled at `at_s` (Unix seconds), the `number`th one taken; `text` is None unless allowed."""

    number: int
    at_s: float
    position: Position
    text: str | None
    verdict: Verdict


class SeenReject(NamedTuple):
    """A record that went to the dead letters; `message`, which may quote it, is None unless texts are allowed."""

    at_s: float
    position: Position
    code: str
    message: str | None


@dataclass(frozen=True, slots=True)
class ReloadFailure:
    """Why changed settings were refused last, and when, in Unix seconds."""

    at_s: float
    reason: str


class PageObserver(Observer):
    """Remembers what the page shows of single records; `wall_clock` gives Unix seconds.

    At most RECORDS_PER_TICK records are taken between two calls of `tick`, and of all others nothing is made: a window
    costs the loop about as much as calling the hook.
    """

    def __init__(self, *, show_text: bool, wall_clock: Callable[[], float]) -> None:
        self._show_text = show_text
        self._wall_clock = wall_clock
        self._room = RECORDS_PER_TICK
        self._taken = 0
        self._records: deque[SeenRecord] = deque(maxlen=KEPT_RECORDS)
        self._rejects: deque[SeenReject] = deque(maxlen=KEPT_REJECTS)
        self._latencies_s: deque[float | None] = deque(maxlen=KEPT_LATENCIES)
        self._published = 0
        self.label_sets: tuple[LabelSet, ...] = ()
        self.failure: ReloadFailure | None = None
        self.running = False

    def serving(self, label_sets: Collection[LabelSet]) -> None:
        """The label sets that the loop begins with."""
        self.label_sets = tuple(label_sets)

    def tick(self) -> None:
        """A second has passed: as many records may be taken again."""
        self._room = RECORDS_PER_TICK

    def started(self) -> None:
        self.running = True

    def stopped(self) -> None:
        self.running = False

    def labelled(self, envelopes: Sequence[Envelope[Document]], decided: Decided) -> None:
        if self._room > 0:
            self._take(envelopes, decided)

    def _take(self, envelopes: Sequence[Envelope[Document]], decided: Decided) -> None:
        """Take a few records, evenly spread over those given."""
        count = min(self._room, RECORDS_PER_WINDOW, len(envelopes))
        at_s = self._wall_clock()
        for row in range(0, len(envelopes), -(-len(envelopes) // count)):
            envelope = envelopes[row]
            text = envelope.payload.text[:TEXT_CHARACTERS] if self._show_text else None
            self._taken += 1
            self._records.append(SeenRecord(self._taken, at_s, envelope.position, text, decided.verdict(row)))
        self._room -= count

    def rejected(self, envelope: Envelope[Reject]) -> None:
        reject = envelope.payload
        message = reject.message[:MESSAGE_CHARACTERS] if self._show_text else None
        self._rejects.append(SeenReject(self._wall_clock(), envelope.position, reject.code, message))

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self._latencies_s.extend(latencies_s)
        self._published += len(latencies_s)

    def reloaded(self, label_sets: Mapping[str, LabelSet]) -> None:
        self.label_sets = tuple(label_sets.values())

    def reload_failed(self, reason: str) -> None:
        self.failure = ReloadFailure(self._wall_clock(), str(mask_secrets(reason))[:REASON_CHARACTERS])

    def records(self) -> list[SeenRecord]:
        """The latest records taken, oldest first; on any thread, as all that follows."""
        return list(self._records)

    def rejects(self) -> list[SeenReject]:
        """The latest dead letters, oldest first."""
        return list(self._rejects)

    def latencies_s(self) -> tuple[int, list[float | None]]:
        """How many outputs were acknowledged ever, and the latencies of the latest ones, oldest first."""
        return self._published, list(self._latencies_s)
