"""THE loop: records in, labelled events out, offsets committed. One thread, top to bottom, nothing calls back up.

    source.poll -> decode -> gather -> engine.submit ... pending.wait
                -> decide -> encode -> delivery.send -> delivery.commit

Enters: a Source, a Classifier, a Delivery and the stops between. Leaves: side effects on the broker, and facts to an
Observer. Records that cannot be labelled take the same road as the others, so that everything ends in the order it
was read, per partition. The loop blocks at most about 50 ms at a time, except while a rebalance or the end asks it
to drain. Must not know: which transport or model it drives.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import TypeAlias, cast

from streamer.decide import decide_alike
from streamer.decode import Decoder
from streamer.delivery import BLOCK_S, Delivery
from streamer.encode import Encoder
from streamer.engine.base import Classifier, EngineFacts, Pending, WindowScores
from streamer.errors import TransientError
from streamer.facets import LabelSet
from streamer.gather import Gather
from streamer.observe import Observer
from streamer.records import Document, Envelope, Outbound, Partition, Reject, Scores, Stream
from streamer.traces import Traces
from streamer.transport.base import Offsets, Source

LAG_INTERVAL_S = 1.0
# records are taken in by so many, and for so long in one round: decoding must not keep the loop from the rest
POLL_CHUNK = 256
TAKE_IN_S = 0.02
# of the time to drain, what is kept for committing
COMMIT_SHARE = 0.3
# one window on the device and one behind it: more would only age in the queue
WINDOWS_UNDER_WAY = 2
# decided, encoded and sent together: more than a large window would only hold up the first of them
HAND_OUT_RECORDS = 1024

_Scored: TypeAlias = tuple[Envelope[Document | Reject], Scores | Reject]


@dataclass(frozen=True, slots=True)
class _UnderWay:
    pending: Pending | None  # None: nothing to score
    envelopes: list[Envelope[Document | Reject]]
    submitted_s: float


class Pipeline:
    """Runs the road until asked to stop. Implements GroupListener: the source calls it from inside poll.

    `reload` is asked once a round for label sets to use from then on, None where nothing changed.
    """

    def __init__(
        self,
        *,
        source: Source,
        delivery: Delivery,
        classifier: Classifier,
        decoder: Decoder,
        gather: Gather,
        encoder: Encoder,
        streams: Mapping[str, Stream],
        observer: Observer,
        traces: Traces,
        reload: Callable[[], Mapping[str, LabelSet] | None],
        poll_records: int,
        window_s: float,
        max_uncommitted_records: int,
        drain_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._delivery = delivery
        self._classifier = classifier
        self._decoder = decoder
        self._gather = gather
        self._encoder = encoder
        self._streams = streams
        self._observer = observer
        self._traces = traces
        self._reload = reload
        self._poll_records = poll_records
        self._window_s = window_s
        self._document_s: float | None = None  # what the engine takes for one, lately
        self._max_uncommitted = max_uncommitted_records
        self._drain_timeout_s = drain_timeout_s
        self._clock = clock
        self._under_way: deque[_UnderWay] = deque()
        self._paused: frozenset[str] = frozenset()
        self._ended = False
        self._lag_s = clock()

    def run(self, stop: Event) -> None:
        """Label records until `stop` is set; then finish what was read, commit, and leave the group.

        Raises what stopped the work; nothing is committed past unfinished records then either.
        """
        self._delivery.open()
        self._source.subscribe(self)
        self._observer.started()
        try:
            while not stop.is_set():
                self.step()
            self._drain()
            self._end_rewind()
        finally:
            self._ended = True  # closing revokes: what could be finished has been
            try:
                self._delivery.close()
            finally:
                self._source.close()
                self._observer.stopped()

    def step(self) -> None:
        """Go round once."""
        self._take_label_sets()
        if self._delivery.rewinding:
            self._rewind()
        self._throttle()
        self._take_in(self._poll_timeout_s())
        self._submit()
        if self._under_way:
            self._observer.beat("wait")
            self._take_out(BLOCK_S)
        self._observer.beat("commit")
        self._serve(0.0)
        self._delivery.commit_if_due(full=self._delivery.uncommitted >= self._max_uncommitted)
        if self._clock() - self._lag_s >= LAG_INTERVAL_S:
            self._observer.lag(self._source.lag())
            self._lag_s = self._clock()

    def _take_label_sets(self) -> None:
        label_sets = self._reload()
        if label_sets is not None:
            self._decoder.use(label_sets)
            self._observer.reloaded(label_sets)

    def _rewind(self) -> None:
        self._observer.beat("rewind")
        self._gather.clear()
        self._delivery.rewind()

    def _end_rewind(self) -> None:
        deadline_s = self._clock() + self._drain_timeout_s
        while self._delivery.rewinding:
            if self._clock() >= deadline_s:
                raise TransientError("the last transaction came to nothing; the next start reads its records again")
            self._rewind()

    # poll and decode

    def _poll_timeout_s(self) -> float:
        """Wait for records only when there is nothing better to do."""
        if self._under_way:
            return 0.0
        due = self._gather.ready_in_s(self._clock())
        return BLOCK_S if due is None else min(BLOCK_S, due)

    def _take_in(self, timeout_s: float) -> None:
        self._observer.beat("poll")
        began = self._clock()
        room = min(self._poll_records, self._max_uncommitted - self._delivery.uncommitted)
        # a poll keeps the membership alive, so it happens even without room: everything is paused then
        envelopes = self._source.poll(min(POLL_CHUNK, max(1, room)), timeout_s)
        while envelopes and not self._delivery.rewinding:  # what comes before a rewind is done comes again after it
            self._decode(envelopes)
            room -= len(envelopes)
            if len(envelopes) < POLL_CHUNK or room < POLL_CHUNK or self._clock() - began > TAKE_IN_S:
                return
            self._observer.beat("poll")
            envelopes = self._source.poll(POLL_CHUNK, 0.0)

    def _decode(self, envelopes: Sequence[Envelope[None]]) -> None:
        began = self._clock()
        refused = self._delivery.start(envelopes)
        decode, add = self._decoder.decode, self._gather.add
        for envelope in envelopes:
            decoded = (refused.get(envelope.position) if refused else None) or decode(envelope)
            add(envelope.replace(decoded), began)
        self._observer.stage("decode", self._clock() - began, len(envelopes))
        for topic, records in Counter([envelope.position.topic for envelope in envelopes]).items():
            self._observer.consumed(topic, records)

    def _throttle(self) -> None:
        """Pause crowded streams, or all when too much is uncommitted; resume with hysteresis."""
        stopped = self._paused == frozenset(self._streams)
        if self._delivery.uncommitted >= max(1, self._max_uncommitted // (2 if stopped else 1)):
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
        self._observer.beat("submit")
        envelopes = self._gather.take()
        documents = [one.payload for one in envelopes if isinstance(one.payload, Document)]
        self._traces.begun(envelopes)
        pending = self._classifier.submit(documents) if documents else None
        self._under_way.append(_UnderWay(pending, envelopes, self._clock()))
        if documents:
            self._observer.submitted(len(documents))

    def _take_out(self, timeout_s: float) -> bool:
        """Send what the oldest window came to; False when it is not back within `timeout_s`."""
        oldest = self._under_way[0]
        result = None
        if oldest.pending is not None:
            result = oldest.pending.wait(timeout_s)
            if result is None:
                return False
            self._observer.scored(result.facts, self._clock() - oldest.submitted_s)
            self._fit_windows(result.facts)
        self._under_way.popleft()
        self._observer.beat("send")
        self._traces.came_back(None if result is None else result.facts)
        self._hand_out(oldest.envelopes, result)
        self._traces.handed_out()
        return True

    def _fit_windows(self, facts: EngineFacts) -> None:
        """Make windows as large as the engine takes `window_s` for: what comes in waits for those under way, and must
        not wait for another stream's backlog. A stream alone has only its own, which larger windows shorten."""
        if len(self._streams) < 2 or not facts.scored:  # what comes next may be new to the cache
            return
        latest_s = (facts.tokenise_s + facts.forward_s) / facts.scored
        self._document_s = latest_s if self._document_s is None else (self._document_s + latest_s) / 2
        self._gather.resize(int(self._window_s / max(self._document_s, 1e-9)))

    def _hand_out(self, envelopes: Sequence[Envelope[Document | Reject]], result: WindowScores | None) -> None:
        """Decide, encode and send a window in its order; work of partitions no longer held is dropped."""
        answers = iter(() if result is None else result.scores)
        epochs, send = self._delivery.epochs(), self._delivery.send
        held: list[_Scored] = []
        for envelope in envelopes:
            payload = envelope.payload
            answer = payload if isinstance(payload, Reject) else next(answers)
            if epochs.get(envelope.position[:2]) == envelope.epoch:
                held.append((envelope, answer))
        for first in range(0, len(held), HAND_OUT_RECORDS):
            part = held[first : first + HAND_OUT_RECORDS]
            messages = self._messages(part)
            began = self._clock()
            for (envelope, _), outbound in zip(part, messages, strict=True):
                send(envelope, outbound)
            self._observer.stage("send", self._clock() - began, len(part))

    def _messages(self, part: Sequence[_Scored]) -> list[Sequence[Outbound]]:
        """What each record came to; those of one stream and label set are worked on together."""
        now_ms = time.time_ns() // 1_000_000
        messages: list[Sequence[Outbound]] = [()] * len(part)
        alike: dict[tuple[str, int], list[int]] = {}
        topic, label_set = "", None
        for at, (envelope, answer) in enumerate(part):
            if isinstance(answer, Reject):
                messages[at] = self._dead_letter(envelope.replace(answer))
                continue
            document = envelope.payload
            assert isinstance(document, Document)
            # seldom: many in a row are alike
            if document.label_set is not label_set or envelope.position.topic != topic:
                topic, label_set = envelope.position.topic, document.label_set
                places = alike.setdefault((topic, id(label_set)), [])
            places.append(at)
        for places in alike.values():
            for at, message in zip(places, self._events([part[at] for at in places], now_ms), strict=True):
                messages[at] = message
        return messages

    def _events(self, scored: Sequence[_Scored], now_ms: int) -> Sequence[Sequence[Outbound]]:
        """Decide and encode records of one stream and label set."""
        began = self._clock()
        envelopes = cast("list[Envelope[Document]]", [envelope for envelope, _ in scored])
        first = envelopes[0]
        decided = decide_alike(first.payload.label_set, cast("list[Scores]", [answer for _, answer in scored]))
        encoding = self._clock()
        leaving = self._traces.leaving(envelopes)
        events = self._encoder.window(self._streams[first.position.topic], leaving, decided, now_ms)
        self._observer.stage("decide", encoding - began, len(scored))
        self._observer.stage("encode", self._clock() - encoding, len(scored))
        self._observer.labelled(envelopes, decided)
        return events

    def _dead_letter(self, envelope: Envelope[Reject]) -> tuple[Outbound]:
        self._observer.rejected(envelope)
        return (self._encoder.dead_letter(self._streams[envelope.position.topic], envelope),)

    # acknowledgements, commits, rebalances

    def _serve(self, timeout_s: float) -> int:
        """Serve acknowledgements, send dead letters for refused outputs; returns what is outstanding."""
        outstanding = self._delivery.serve(timeout_s)
        refused = self._delivery.refused()
        for reject in refused:
            self._delivery.send(reject, self._dead_letter(reject))
        return outstanding + len(refused)

    def _drain(self) -> None:
        """Finish what was read, as much as the drain time allows, and commit it."""
        began_s = self._clock()
        self._finish(began_s + (1.0 - COMMIT_SHARE) * self._drain_timeout_s)
        self._delivery.settle(began_s + self._drain_timeout_s)

    def _finish(self, deadline_s: float) -> None:
        while (len(self._gather) or self._under_way) and self._clock() < deadline_s:
            self._observer.beat("drain")
            if len(self._gather) and len(self._under_way) < WINDOWS_UNDER_WAY:
                self._submit_window()
            else:
                self._take_out(BLOCK_S)
            self._serve(0.0)
            self._delivery.commit_if_due(full=False)  # a transaction must not outlive its time while windows finish
        while self._clock() < deadline_s and self._serve(BLOCK_S):
            self._observer.beat("drain")

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

    def on_committed(self, offsets: Offsets) -> None:
        self._delivery.on_committed(offsets)

    def _let_go(self, partitions: Collection[Partition]) -> None:
        self._gather.drop(partitions)
        self._delivery.let_go(partitions)
