"""From messages to commits: what is promised about them, and how the promise is kept.

Enters: records as they are read, their messages in reading order per partition. Leaves: messages sent, offsets
committed behind them. `AtLeastOnce` commits what is acknowledged; `ExactlyOnce` (transactions.py) puts messages and
offsets into one transaction. Both are driven by the loop's thread. Must not know: labels, models, Kafka clients.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

from streamer.errors import DeliveryError, TransientError
from streamer.observe import Observer
from streamer.offsets import Offsets
from streamer.records import Envelope, Outbound, Partition, Position, Reject
from streamer.transport.base import DeliveryOutcome, Refused, Sink, Source
from streamer.transport.base import Offsets as NextOffsets

BLOCK_S = 0.05  # the longest single wait of the loop
COMMIT_RETRY_S = 0.2


class Delivery(Protocol):
    """What the loop asks of either promise."""

    @property
    def uncommitted(self) -> int:
        """Records read and not yet covered by a commit."""

    @property
    def rewinding(self) -> bool:
        """What was read since the last commit is given up, and `rewind` must bring it back before more is read."""

    def open(self) -> None:
        """Called once, before the group is joined."""

    def start(self, envelopes: Sequence[Envelope[None]]) -> Mapping[Position, Reject]:
        """Records were read. Those whose output is known to be refused, by position: they go to the dead letters."""

    def epochs(self) -> Mapping[tuple[str, int], int]:
        """Epochs whose work still counts, by topic and partition; work of others is to be dropped."""

    def send(self, envelope: Envelope[object], messages: Sequence[Outbound]) -> None:
        """The end of a record: the messages that it came to. In reading order per partition."""

    def serve(self, timeout_s: float) -> int:
        """Serve acknowledgements and commits under way; returns what is outstanding. Raises what stops the work."""

    def refused(self) -> list[Envelope[Reject]]:
        """Records whose output the broker refused since the last call: send their dead letters."""

    def commit_if_due(self, *, full: bool) -> None:
        """Begin a commit when the interval is over, or when `full`: no more may be read before one."""

    def settle(self, deadline_s: float) -> None:
        """Commit everything that was sent and served, trying again at most until the deadline (of the clock)."""

    def rewind(self) -> None:
        """Go back to the committed offsets; one bounded attempt."""

    def on_committed(self, offsets: NextOffsets) -> None:
        """The answer to a commit of the source."""

    def let_go(self, partitions: Collection[Partition]) -> None:
        """Partitions are another member's: what is under way for them must not count."""

    def close(self) -> None: ...


class _Sent:
    """A record whose messages are on their way."""

    __slots__ = ("envelope", "left", "refused")

    def __init__(self, envelope: Envelope[object], left: int) -> None:
        self.envelope = envelope
        self.left = left
        self.refused = False


class AtLeastOnce:
    """Commits an offset when the outputs of everything below it are acknowledged.

    A crash repeats what was read and not committed: at most what the loop lets be uncommitted. An output that the
    broker refuses becomes a dead letter, after whatever was sent meanwhile.
    """

    def __init__(
        self,
        *,
        source: Source,
        sink: Sink,
        observer: Observer,
        commit_interval_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._source = source
        self._sink = sink
        self._observer = observer
        self._commit_interval_s = commit_interval_s
        self._clock = clock
        self._sleep = sleep
        self._offsets = Offsets()
        self._failure: Exception | None = None
        self._ended: list[tuple[Envelope[object], bool]] = []  # acknowledged, not yet counted; whether dead letters
        self._refused: list[Envelope[Reject]] = []
        self._waiting: deque[tuple[Envelope[object], Sequence[Outbound]]] = deque()  # for room in the sink
        self._commits = 0  # not yet answered
        self._committed_s = clock()

    @property
    def uncommitted(self) -> int:
        return self._offsets.uncommitted

    @property
    def rewinding(self) -> bool:
        return False

    def open(self) -> None:
        """Nothing to take up."""

    def start(self, envelopes: Sequence[Envelope[None]]) -> Mapping[Position, Reject]:
        start = self._offsets.start
        for envelope in envelopes:
            start(envelope.position, envelope.epoch)
        return {}

    def epochs(self) -> Mapping[tuple[str, int], int]:
        return self._offsets.epochs()

    def send(self, envelope: Envelope[object], messages: Sequence[Outbound]) -> None:
        if self._waiting or self._sink.full:
            self._waiting.append((envelope, messages))
        else:
            self._put(envelope, messages)

    def _put(self, envelope: Envelope[object], messages: Sequence[Outbound]) -> None:
        if len(messages) == 1:
            self._sink.send(messages[0], partial(self._on_only_delivered, envelope, messages[0]))
            return
        record = _Sent(envelope, len(messages))
        for message in messages:
            self._sink.send(message, partial(self._on_delivered, record, message))

    def _on_only_delivered(self, envelope: Envelope[object], message: Outbound, outcome: DeliveryOutcome) -> None:
        """The end of nearly every record, and so as short as can be."""
        if outcome is None:
            self._ended.append((envelope, message.dead_letter))
        else:
            self._on_delivered(_Sent(envelope, 1), message, outcome)

    def _on_delivered(self, record: _Sent, message: Outbound, outcome: DeliveryOutcome) -> None:
        """Runs inside the sink, which must not be raised through: a failure is kept for the loop."""
        if outcome is None or (isinstance(outcome, Refused) and not message.dead_letter):
            record.left -= 1
            if outcome is not None and not record.refused:
                record.refused = True
                self._refused.append(record.envelope.replace(output_refused(message, outcome)))
            if not record.left and not record.refused:
                self._ended.append((record.envelope, message.dead_letter))
        else:
            self._failure = undelivered(record.envelope.position, message, outcome)

    def serve(self, timeout_s: float) -> int:
        outstanding = self._sink.flush(timeout_s)
        self._finish()
        if self._failure is not None:
            raise self._failure
        while self._waiting and not self._sink.full:
            envelope, messages = self._waiting.popleft()
            if self._offsets.holds(envelope.position, envelope.epoch):
                self._put(envelope, messages)
        return outstanding + len(self._waiting)

    def _finish(self) -> None:
        """Count what was acknowledged since the last time: together, for that is many records at a time."""
        ended, self._ended = self._ended, []
        finish = self._offsets.finish
        for envelope, _ in ended:
            finish(envelope.position, envelope.epoch)
        tell_ended(self._observer, ended)

    def refused(self) -> list[Envelope[Reject]]:
        refused, self._refused = self._refused, []
        return refused

    def commit_if_due(self, *, full: bool) -> None:
        if self._commits or not (full or self._clock() - self._committed_s >= self._commit_interval_s):
            return
        offsets = self._offsets.committable()
        self._committed_s = self._clock()
        if offsets:
            self._commit(offsets, wait=False)

    def _commit(self, offsets: NextOffsets, *, wait: bool) -> None:
        self._commits += 1
        self._source.commit(offsets, wait=wait)

    def on_committed(self, offsets: NextOffsets) -> None:
        self._commits -= 1
        self._offsets.committed(offsets)
        if offsets:
            self._observer.committed(len(offsets), self._clock() - self._committed_s)
        else:
            self._observer.commit_failed()

    def settle(self, deadline_s: float) -> None:
        """See `Delivery.settle`. Raises TransientError when the commit fails until the deadline."""
        while offsets := self._offsets.committable():
            self._committed_s = self._clock()
            try:
                self._commit(offsets, wait=True)
            except TransientError:
                if self._clock() >= deadline_s:
                    raise
                self._observer.beat("drain")
                self._sleep(COMMIT_RETRY_S)
            else:
                return

    def rewind(self) -> None:
        """Never needed: what is sent stays sent."""

    def let_go(self, partitions: Collection[Partition]) -> None:
        self._offsets.forget(partitions)

    def close(self) -> None:
        self._sink.close()


def output_refused(message: Outbound, outcome: Refused) -> Reject:
    """What becomes of a record whose output the broker refuses."""
    return Reject("output_refused", f"the broker refused the event for '{message.topic}': {outcome.reason}")


def undelivered(position: Position, message: Outbound, outcome: Refused | Exception) -> Exception:
    """What stops the process: a dead letter that is refused, or a message that cannot be delivered."""
    if isinstance(outcome, Refused):
        return DeliveryError(f"dead letter of {position} refused by topic '{message.topic}': {outcome.reason}")
    return outcome


def tell_ended(observer: Observer, ended: Iterable[tuple[Envelope[object], bool]]) -> None:
    """Records have ended for good, each in an output or, where so marked, in a dead letter."""
    now_ms = time.time() * 1000
    published: dict[str, list[float | None]] = {}
    dead_lettered: dict[str, int] = {}
    for envelope, dead_letter in ended:
        topic, started_ms = envelope.position.topic, envelope.timestamp_ms
        if dead_letter:
            dead_lettered[topic] = dead_lettered.get(topic, 0) + 1
        else:
            latency_s = None if started_ms is None else (now_ms - started_ms) / 1000
            published.setdefault(topic, []).append(latency_s)
    for topic, latencies_s in published.items():
        observer.published(topic, latencies_s)
    for topic, records in dead_lettered.items():
        observer.dead_lettered(topic, records)
