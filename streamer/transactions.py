"""Exactly once: messages and the offsets they came from in one transaction.

    idle --send--> open --interval over--> flushing --all acknowledged--> committing --> idle
    any of them --refused, lost, failed--> rewinding --aborted, read again--> idle

Enters: messages in reading order per partition. Leaves: transactions that hold exactly the outputs and dead letters
of the records below their offsets. What comes while one is being committed waits for the next. When one comes to
nothing, all work under way is given up and read again from the committed offsets.
Must not know: labels, models, Kafka clients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial

from streamer.delivery import BLOCK_S, output_refused, tell_ended, undelivered
from streamer.errors import RewindError, StreamerError, TransientError
from streamer.observe import Observer
from streamer.offsets import Offsets
from streamer.records import Envelope, Outbound, Partition, Position, Reject
from streamer.transport.base import DeliveryOutcome, Refused, Settling, Source, TransactionalSink
from streamer.transport.base import Offsets as NextOffsets

_SERVE_S = 0.005  # while messages wait for a transaction to end, an idle look at it is worth this much
_ABORT_S = 2.0
_SMALLEST = 256  # times smaller than the largest transaction, where the broker is slow
_ALONE_S = 10.0


class ExactlyOnce:
    """A transaction for every commit interval.

    A broker that refuses one message refuses its whole batch and does not tell which one it was. So the records of a
    refused batch are remembered by position, the transaction is aborted, and on the rerun each of them travels alone:
    the one that is refused again becomes a dead letter on the next rerun.

    A transaction ends before its interval when it holds `most_bytes`. One that the broker takes longer for than
    `longest_s` was too large: the next ones hold less.
    `recover_s` bounds how long the committed offsets are asked for before the process gives up.
    """

    def __init__(
        self,
        *,
        source: Source,
        sink: TransactionalSink,
        observer: Observer,
        commit_interval_s: float,
        most_bytes: int,
        longest_s: float,
        recover_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._sink = sink
        self._observer = observer
        self._commit_interval_s = commit_interval_s
        self._largest_bytes = self._most_bytes = most_bytes
        self._longest_s = longest_s
        self._recover_s = recover_s
        self._clock = clock
        self._offsets = Offsets()
        self._open = False
        self._flushing = False
        self._settling: Settling | None = None
        self._rewinding = False
        self._since_s = 0.0  # when the transaction began, its commit began, or the rewind became due
        self._covering: NextOffsets = {}
        self._begun_s = 0.0
        self._inside: list[tuple[Envelope[object], bool]] = []  # records of the transaction; whether dead letters
        self._inside_bytes = 0
        self._waiting: deque[tuple[Envelope[object], Sequence[Outbound]]] = deque()
        self._suspects: set[Position] = set()
        self._rejects: dict[Position, Reject] = {}
        self._broken: str | None = None
        self._failure: Exception | None = None

    @property
    def uncommitted(self) -> int:
        return self._offsets.uncommitted

    @property
    def rewinding(self) -> bool:
        return self._rewinding

    def open(self) -> None:
        """See `Delivery.open`. What an earlier process of the same transactional id left open is aborted."""
        self._sink.open()

    def start(self, envelopes: Sequence[Envelope[None]]) -> Mapping[Position, Reject]:
        for envelope in envelopes:
            self._offsets.start(envelope.position, envelope.epoch)
        return self._rejects

    def epochs(self) -> Mapping[tuple[str, int], int]:
        return self._offsets.epochs()

    def send(self, envelope: Envelope[object], messages: Sequence[Outbound]) -> None:
        if self._rewinding:
            return
        if self._flushing or self._settling is not None or self._waiting or self._sink.full:
            self._waiting.append((envelope, messages))
        else:
            self._put(envelope, messages)

    def _put(self, envelope: Envelope[object], messages: Sequence[Outbound]) -> None:
        if not self._offsets.holds(envelope.position, envelope.epoch):
            return
        if not self._open and not self._begin():
            return
        alone = envelope.position in self._suspects
        try:
            if alone:
                self._sink.flush(_ALONE_S)
            for message in messages:
                self._sink.send(message, partial(self._on_delivered, envelope, message, alone))
                if alone:
                    self._sink.flush(_ALONE_S)
        except RewindError as lost:
            self._give_up(str(lost))
            return
        self._offsets.finish(envelope.position, envelope.epoch)
        self._inside.append((envelope, messages[0].dead_letter))
        self._inside_bytes += sum(len(message.value or b"") for message in messages)
        if self._inside_bytes >= self._most_bytes:
            self._flushing = True

    def _begin(self) -> bool:
        self._open = True
        self._since_s = self._begun_s = self._clock()
        try:
            self._sink.begin()
        except RewindError as lost:
            self._give_up(str(lost))
        return not self._rewinding

    def _on_delivered(
        self, envelope: Envelope[object], message: Outbound, alone: bool, outcome: DeliveryOutcome
    ) -> None:
        """Runs inside the sink, which must not be raised through nor asked for more: `serve` acts on it."""
        if outcome is None:
            return
        if isinstance(outcome, Refused) and not alone:
            self._suspects.add(envelope.position)
            self._broken = f"topic '{message.topic}' refused a batch: {outcome.reason}"
        elif isinstance(outcome, Refused) and not message.dead_letter:
            self._rejects[envelope.position] = output_refused(message, outcome)
            self._broken = f"topic '{message.topic}' refused the event of {envelope.position}: {outcome.reason}"
        elif isinstance(outcome, RewindError):
            self._broken = str(outcome)
        else:
            self._failure = undelivered(envelope.position, message, outcome)

    def serve(self, timeout_s: float) -> int:
        """See `Delivery.serve`."""
        if self._settling is not None:
            self._look_at_settling(timeout_s or (_SERVE_S if self._waiting else 0.0))
        if self._settling is None and not self._rewinding:
            try:
                outstanding = self._sink.flush(timeout_s or (_SERVE_S if self._flushing else 0.0))
            except RewindError as lost:
                outstanding, self._broken = 0, str(lost)
            if self._failure is not None:
                raise self._failure
            if self._broken is not None:
                self._give_up(self._broken)
            elif not self._flushing:
                self._put_waiting()
                return outstanding + len(self._waiting)
            elif not outstanding:
                self._commit()
        return 1 if self._flushing or (self._settling is not None and not self._rewinding) else 0

    def _look_at_settling(self, timeout_s: float) -> None:
        assert self._settling is not None
        try:
            if not self._settling.wait(timeout_s):
                return
        except RewindError as lost:
            self._settling = None
            self._open = False
            if not self._rewinding:
                self._observer.commit_failed()
                self._give_up(str(lost))
            return
        self._settling = None
        if not self._rewinding:
            self._committed()

    def _commit(self) -> None:
        self._flushing = False
        self._since_s = self._clock()
        self._covering = self._offsets.committable()
        self._settling = self._sink.commit(self._covering, self._source.commit_token())

    def _committed(self) -> None:
        self._open = False
        self._offsets.committed(self._covering)
        self._observer.committed(len(self._covering), self._clock() - self._since_s)
        tell_ended(self._observer, self._inside)
        if self._suspects or self._rejects:
            for envelope, _ in self._inside:
                self._suspects.discard(envelope.position)
                self._rejects.pop(envelope.position, None)
        self._fit(self._clock() - self._begun_s)
        self._inside.clear()
        self._inside_bytes = 0
        self._put_waiting()

    def _put_waiting(self) -> None:
        while self._waiting and not (self._flushing or self._rewinding or self._sink.full):
            self._put(*self._waiting.popleft())

    def _fit(self, took_s: float) -> None:
        """Let the next transaction be as large as the broker takes in good time."""
        fewest_bytes = self._largest_bytes // _SMALLEST
        if took_s > self._longest_s:
            self._most_bytes = max(fewest_bytes, int(self._inside_bytes * self._longest_s / took_s))
        elif self._inside_bytes >= self._most_bytes and took_s < self._longest_s / 2:
            self._most_bytes = min(self._largest_bytes, 2 * self._most_bytes)

    def _give_up(self, reason: str) -> None:
        """Abort what is open, forget what is under way, and read it again."""
        if self._open and self._settling is None:
            self._settling = self._sink.abort()
        if self._inside and self._clock() - self._begun_s > self._longest_s:  # if it was for its size
            fewest_bytes = self._largest_bytes // _SMALLEST
            self._most_bytes = max(fewest_bytes, min(self._most_bytes, self._inside_bytes) // 4)
        self._open = self._flushing = False
        self._broken = None
        self._inside.clear()
        self._inside_bytes = 0
        self._waiting.clear()
        self._offsets.forget_all()
        self._rewinding = True
        self._since_s = self._clock()
        self._observer.rewound(reason)

    def refused(self) -> list[Envelope[Reject]]:
        """None: they are read again, and rejected then."""
        return []

    def commit_if_due(self, *, full: bool) -> None:
        if not self._open or self._flushing or self._settling is not None:
            return
        if full or self._clock() - self._since_s >= self._commit_interval_s:
            self._flushing = True

    def settle(self, deadline_s: float) -> None:
        """See `Delivery.settle`. A transaction that cannot be committed until the deadline is aborted; its records
        are read again, by whoever has their partitions then."""
        while (self._open or self._settling is not None) and not self._rewinding:
            if self._clock() >= deadline_s:
                if self._settling is None:
                    self._give_up("work was not committed within the drain time")
                return
            self._flushing = self._flushing or self._settling is None
            self._observer.beat("drain")
            self.serve(BLOCK_S)

    def rewind(self) -> None:
        """See `Delivery.rewind`. Raises TransientError when the broker does not tell the committed offsets in time."""
        if self._settling is not None:
            self._look_at_settling(BLOCK_S)
            if self._settling is not None:
                return
        try:
            self._source.rewind(None)
        except TransientError:
            if self._clock() - self._since_s >= self._recover_s:
                raise
            return
        self._rewinding = False

    def on_committed(self, offsets: NextOffsets) -> None:
        """The source commits nothing by itself here."""

    def let_go(self, partitions: Collection[Partition]) -> None:
        gone = frozenset(partitions)
        if self._open and self._settling is None and any(one.position.at in gone for one, _ in self._inside):
            self._give_up("partitions were lost before their transaction was committed")
        self._offsets.forget(partitions)
        self._suspects = {position for position in self._suspects if position.at not in gone}
        self._rejects = {position: reject for position, reject in self._rejects.items() if position.at not in gone}

    def close(self) -> None:
        """Abort what is open, so that readers of the outputs do not wait for it to time out."""
        if self._open and self._settling is None:
            with suppress(StreamerError):
                self._sink.abort().wait(_ABORT_S)
        self._open = False
        self._sink.close()
