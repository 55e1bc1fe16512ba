"""THE loop: records in, labelled events out, offsets committed. One thread, top to bottom, nothing calls back up.

    source.poll -> decode -> gather -> engine.submit ... pending.wait
                -> decide -> encode -> sink.send -> offsets -> commit

Enters: a Source, a Classifier, a Sink and the stops between. Leaves: side effects on the broker, and facts to an
Observer. The loop blocks at most about 50 ms at a time, except while a rebalance or the end asks it to drain.
Must not know: which transport or model it drives.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from threading import Event

from streamer.decide import decide
from streamer.decode import Decoder
from streamer.encode import Encoder
from streamer.engine.base import Classifier, Pending, WindowScores
from streamer.errors import DeliveryError, TransientError
from streamer.gather import Gather
from streamer.observe import Observer
from streamer.offsets import Offsets
from streamer.records import Document, Envelope, Outbound, Partition, Reject, Scores, Stream
from streamer.transport.base import DeliveryOutcome, Refused, Sink, Source

BLOCK_S = 0.05  # the longest single wait of the loop
LAG_INTERVAL_S = 1.0
COMMIT_RETRY_S = 0.2
# one window on the device and one behind it: more would only age in the queue
WINDOWS_UNDER_WAY = 2


@dataclass(frozen=True, slots=True)
class _UnderWay:
    pending: Pending
    envelopes: list[Envelope[Document]]
    submitted_s: float


class Pipeline:
    """Runs the road until asked to stop. Implements RebalanceListener: the source calls it from inside poll."""

    def __init__(
        self,
        *,
        source: Source,
        sink: Sink,
        classifier: Classifier,
        decoder: Decoder,
        gather: Gather,
        encoder: Encoder,
        streams: Mapping[str, Stream],
        observer: Observer,
        poll_records: int,
        max_uncommitted_records: int,
        commit_interval_s: float,
        drain_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._source = source
        self._sink = sink
        self._classifier = classifier
        self._decoder = decoder
        self._gather = gather
        self._encoder = encoder
        self._streams = streams
        self._observer = observer
        self._poll_records = poll_records
        self._max_uncommitted = max_uncommitted_records
        self._commit_interval_s = commit_interval_s
        self._drain_timeout_s = drain_timeout_s
        self._clock = clock
        self._sleep = sleep
        self._offsets = Offsets()
        self._under_way: deque[_UnderWay] = deque()
        self._paused: frozenset[str] = frozenset()
        self._failure: Exception | None = None
        self._refused: list[Envelope[Reject]] = []
        self._ended = False
        self._committed_s = self._lag_s = clock()

    def run(self, stop: Event) -> None:
        """Label records until `stop` is set; then finish what was read, commit, and leave the group.

        Raises what stopped the work; nothing is committed past unfinished records then either.
        """
        self._source.subscribe(self)
        self._observer.started()
        try:
            while not stop.is_set():
                self.step()
            self._drain()
        finally:
            self._ended = True  # closing revokes: what could be finished has been
            self._source.close()
            self._sink.close()
            self._observer.stopped()

    def step(self) -> None:
        """Go round once."""
        self._observer.beat()
        self._throttle()
        self._take_in(self._poll_timeout_s())
        self._submit()
        if self._under_way:
            self._take_out(BLOCK_S)
        self._serve(0.0)
        now = self._clock()
        if now - self._committed_s >= self._commit_interval_s or self._offsets.uncommitted >= self._max_uncommitted:
            self._commit(wait=False)
        if now - self._lag_s >= LAG_INTERVAL_S:
            self._observer.lag(self._source.lag())
            self._lag_s = now

    # poll and decode

    def _poll_timeout_s(self) -> float:
        """Wait for records only when there is nothing better to do."""
        if self._under_way:
            return 0.0
        due = self._gather.ready_in_s(self._clock())
        return BLOCK_S if due is None else min(BLOCK_S, due)

    def _take_in(self, timeout_s: float) -> None:
        room = min(self._poll_records, self._max_uncommitted - self._offsets.uncommitted)
        # a poll keeps the membership alive, so it happens even without room: everything is paused then
        envelopes = self._source.poll(max(1, room), timeout_s)
        if not envelopes:
            return
        began = self._clock()
        counts: dict[str, int] = {}
        for envelope in envelopes:
            topic = envelope.position.topic
            counts[topic] = counts.get(topic, 0) + 1
            self._offsets.start(envelope.position, envelope.epoch)
            decoded = self._decoder.decode(envelope)
            if isinstance(decoded, Document):
                self._gather.add(envelope.replace(decoded), began)
            else:
                self._send_dead_letter(envelope.replace(decoded))
        self._observer.stage("decode", self._clock() - began, len(envelopes))
        for topic, count in counts.items():
            self._observer.consumed(topic, count)

    def _throttle(self) -> None:
        """Pause crowded streams, or all when too much is uncommitted; resume with hysteresis."""
        stopped = self._paused == frozenset(self._streams)
        if self._offsets.uncommitted >= max(1, self._max_uncommitted // (2 if stopped else 1)):
            wanted = frozenset(self._streams)
        else:
            wanted = (self._paused - self._gather.relieved()) | self._gather.crowded()
        if wanted == self._paused:
            return
        self._source.pause(wanted - self._paused)
        self._source.resume(self._paused - wanted)
        self._paused = wanted
        self._observer.paused(wanted)

    # engine

    def _submit(self) -> None:
        while len(self._under_way) < WINDOWS_UNDER_WAY and self._gather.ready_in_s(self._clock()) == 0.0:
            self._submit_window()

    def _submit_window(self) -> None:
        envelopes = self._gather.take()
        pending = self._classifier.submit([envelope.payload for envelope in envelopes])
        self._under_way.append(_UnderWay(pending, envelopes, self._clock()))
        self._observer.submitted(len(envelopes))

    def _take_out(self, timeout_s: float) -> bool:
        """Send what the oldest window came to; False when it is not back within `timeout_s`."""
        oldest = self._under_way[0]
        result = oldest.pending.wait(timeout_s)
        if result is None:
            return False
        self._under_way.popleft()
        self._observer.scored(result.facts, self._clock() - oldest.submitted_s)
        self._hand_out(oldest.envelopes, result)
        return True

    def _hand_out(self, envelopes: Sequence[Envelope[Document]], result: WindowScores) -> None:
        """Decide, encode and send a window; work of partitions no longer held is dropped."""
        held, scores = [], []
        for envelope, answer in zip(envelopes, result.scores, strict=True):
            if not self._offsets.holds(envelope.position, envelope.epoch):
                continue
            if isinstance(answer, Scores):
                held.append(envelope)
                scores.append(answer)
            else:
                self._send_dead_letter(envelope.replace(answer))
        began = self._clock()
        verdicts = decide([envelope.payload for envelope in held], scores)
        decided = self._clock()
        labelled = [one.replace(verdict) for one, verdict in zip(held, verdicts, strict=True)]
        now_ms = time.time_ns() // 1_000_000
        messages = [self._encoder.event(self._streams[one.position.topic], one, now_ms) for one in labelled]
        encoded = self._clock()
        self._observer.stage("decide", decided - began, len(held))
        self._observer.stage("encode", encoded - decided, len(held))
        self._observer.labelled(labelled)
        sending = self._clock()
        for one, message in zip(labelled, messages, strict=True):
            self._send(one, message)
        self._observer.stage("send", self._clock() - sending, len(held))

    # send

    def _send(self, envelope: Envelope[object], message: Outbound) -> None:
        def delivered(outcome: DeliveryOutcome) -> None:
            self._on_delivered(envelope, message, outcome)

        self._sink.send(message, delivered)

    def _send_dead_letter(self, envelope: Envelope[Reject]) -> None:
        self._observer.rejected(envelope)
        stream = self._streams[envelope.position.topic]
        self._send(envelope, self._encoder.dead_letter(stream, envelope))

    def _on_delivered(self, envelope: Envelope[object], message: Outbound, outcome: DeliveryOutcome) -> None:
        """Runs inside the sink, which must not be raised through: a failure is kept for the loop."""
        topic = envelope.position.topic
        if outcome is None:
            self._offsets.finish(envelope.position, envelope.epoch)
            if message.dead_letter:
                self._observer.dead_lettered(topic)
            else:
                started = envelope.timestamp_ms
                self._observer.published(topic, None if started is None else time.time() - started / 1000)
        elif isinstance(outcome, Refused) and not message.dead_letter:
            reason = f"the broker refused the event for '{message.topic}': {outcome.reason}"
            self._refused.append(envelope.replace(Reject("output_refused", reason)))
        elif isinstance(outcome, Refused):
            self._failure = DeliveryError(
                f"dead letter of {envelope.position} refused by topic '{message.topic}': {outcome.reason}"
            )
        else:
            self._failure = outcome

    def _serve(self, timeout_s: float) -> int:
        """Serve acknowledgements, send dead letters for refused outputs; raises what made a delivery fail."""
        outstanding = self._sink.flush(timeout_s)
        if self._failure is not None:
            raise self._failure
        refused, self._refused = self._refused, []
        for envelope in refused:
            self._send_dead_letter(envelope)
        return outstanding + len(refused)

    # commit and drain

    def _commit(self, *, wait: bool) -> None:
        self._committed_s = self._clock()
        # a commit nobody waited for may have failed, so one that is waited for repeats them
        offsets = self._offsets.passed() if wait else self._offsets.committable()
        if offsets:
            self._source.commit(offsets, wait=wait)
            self._offsets.committed(offsets)
            self._observer.committed(len(offsets))

    def _drain(self) -> None:
        """Finish what was read within the drain time, and commit; a commit that fails for now is tried again."""
        deadline_s = self._clock() + self._drain_timeout_s
        self._finish_all(deadline_s)
        while True:
            try:
                self._commit(wait=True)
            except TransientError:
                if self._clock() >= deadline_s:
                    raise
                self._observer.beat()
                self._sleep(COMMIT_RETRY_S)
            else:
                return

    def _finish_all(self, deadline_s: float) -> None:
        """Finish everything read so far, or as much as the deadline allows."""
        while (len(self._gather) or self._under_way) and self._clock() < deadline_s:
            self._observer.beat()
            if len(self._gather) and len(self._under_way) < WINDOWS_UNDER_WAY:
                self._submit_window()
            else:
                self._take_out(BLOCK_S)
            self._serve(0.0)
        while self._clock() < deadline_s and self._serve(BLOCK_S):
            self._observer.beat()

    def on_assigned(self, partitions: Collection[Partition]) -> None:
        self._observer.assigned(partitions)

    def on_revoked(self, partitions: Collection[Partition]) -> None:
        """Finish what was read within the drain time, commit it, and forget the rest."""
        if not self._ended:
            self._drain()
        self._let_go(partitions)
        self._observer.revoked(partitions, lost=False)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """Another member has them: drop the work, commit nothing."""
        self._let_go(partitions)
        self._observer.revoked(partitions, lost=True)

    def _let_go(self, partitions: Collection[Partition]) -> None:
        self._gather.drop(partitions)
        self._offsets.forget(partitions)
