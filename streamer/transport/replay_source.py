"""The start of the road for a replay: fixed ranges of a topic, read once, settled in a group of the replay's own.

Enters: ranges, and how far their replay came. Leaves: Envelopes, at most so many a second. Nothing is shared with other
members, so nothing rebalances. Must not know: what records hold, where their events go, Kafka clients.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import structlog

from streamer.errors import StreamerError, TransientError
from streamer.records import Envelope, Partition
from streamer.transport.base import CommitToken, GroupListener, Lag, Offsets
from streamer.transport.kafka_range import Range, RangeReader
from streamer.transport.replay_group import Progress, ReplayGroup

# how far a rate may lag behind and catch up: less than this is the unevenness of windows and of the clock
CATCH_UP_S = 0.5

OpenReader: TypeAlias = Callable[[Sequence[Range]], RangeReader]


class RateLimit:
    """At most `rate` records a second (None: any number), spread evenly; nothing here waits."""

    def __init__(self, *, rate: float | None, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._due_s = clock()  # when the next record may pass

    def allowed(self, wanted: int) -> int:
        """How many of `wanted` records may pass now."""
        if self._rate is None:
            return wanted
        now_s = self._clock()
        self._due_s = max(self._due_s, now_s - CATCH_UP_S)
        return 0 if now_s < self._due_s else min(wanted, 1 + int((now_s - self._due_s) * self._rate))

    def due_in_s(self) -> float:
        """Seconds until a record may pass."""
        return 0.0 if self._rate is None else max(0.0, self._due_s - self._clock())

    def passed(self, records: int) -> None:
        """So many have passed."""
        if self._rate is not None:
            self._due_s += records / self._rate


class ReplaySource:
    """A Source over fixed ranges, driven by one thread.

    `on_end` is called from inside a poll, once everything was read and every record that was handed out is committed.
    `on_settled` is told by how many offsets each commit moved the replay on.
    """

    def __init__(
        self,
        *,
        group: ReplayGroup,
        progress: Sequence[Progress],
        open_reader: OpenReader,
        rate: RateLimit,
        on_end: Callable[[], object],
        on_settled: Callable[[int], object],
    ) -> None:
        self._group = group
        self._open_reader = open_reader
        self._rate = rate
        self._log = structlog.get_logger()
        self._on_end = on_end
        self._on_settled = on_settled
        self._ends = {one.range.at: one.range.end for one in progress}
        self._committed = {one.range.at: one.next_offset for one in progress}
        self._handed_out = dict(self._committed)  # the next offset after the last record that left here
        self._topics = {at.topic for at in self._ends}
        self._paused: set[str] = set()
        self._epoch = 0
        self._assigned = False
        self._reader = self._read_from(self._committed)

    def subscribe(self, listener: GroupListener) -> None:
        """See `Source.subscribe`."""
        self._listener = listener
        self._group.on_answer(self._answered)

    def poll(self, max_records: int, timeout_s: float) -> list[Envelope[None]]:
        """See `Source.poll`. Raises UsageError too: for a refused login and missing rights."""
        if not self._assigned:
            self._assigned = True
            self._listener.on_assigned(tuple(self._ends))
        self._group.serve(0)
        allowed = self._allowed(max_records)
        if not allowed:
            resting = self._reader.done or self._topics <= self._paused
            self._group.serve(timeout_s if resting else min(timeout_s, self._rate.due_in_s()))
            allowed = self._allowed(max_records)
        envelopes = self._reader.poll(allowed, timeout_s) if allowed else []
        self._rate.passed(len(envelopes))
        for envelope in envelopes:
            self._handed_out[envelope.position.at] = envelope.position.offset + 1
        if self.ended:
            self._on_end()
        return [envelope._replace(epoch=self._epoch) for envelope in envelopes] if self._epoch else envelopes

    @property
    def ended(self) -> bool:
        """Whether everything was read, and every record that was handed out is committed."""
        return self._reader.done and all(self._settled(at) for at in self._ends)

    def pause(self, topics: Collection[str]) -> None:
        self._paused.update(topics)

    def resume(self, topics: Collection[str]) -> None:
        self._paused.difference_update(topics)

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        """See `Source.commit`. Raises UsageError too, when the group has members."""
        if not wait:
            self._group.commit_soon(offsets)
            return
        try:
            self._group.commit_now(offsets)
        except StreamerError:
            self._answered({})
            raise
        self._answered(offsets)

    def rewind(self, offsets: Offsets | None) -> None:
        """See `Source.rewind`."""
        starts = {**self._committed, **(offsets or {})}
        self._reader.close()
        self._epoch += 1
        self._handed_out = dict(starts)
        self._reader = self._read_from(starts)

    def commit_token(self) -> CommitToken:
        """See `Source.commit_token`: None, for a replay is no member of its group."""
        return None

    def lag(self) -> Mapping[Partition, Lag]:
        """See `Source.lag`: offsets left to read. How old they are says nothing in a replay."""
        position = self._reader.position()
        left = {at: max(0, end - position[at]) for at, end in self._ends.items()}
        return {at: Lag(records, None if records else 0.0) for at, records in left.items()}

    def close(self) -> None:
        """See `Source.close`. What was read to its end and settled is marked so: the last record of a range may stand
        before its end, where transactions or compaction left gaps."""
        try:
            if self._assigned:
                self._listener.on_revoked(tuple(self._ends))
                self._seal()
        finally:
            self._reader.close()
            self._group.close()

    def _allowed(self, wanted: int) -> int:
        return 0 if self._reader.done or self._topics <= self._paused else self._rate.allowed(wanted)

    def _settled(self, at: Partition) -> bool:
        return self._committed[at] >= self._handed_out[at]

    def _seal(self) -> None:
        read = self._reader.position()
        gaps = {
            at: end
            for at, end in self._ends.items()
            if self._committed[at] < end <= read[at] and self._settled(at)
        }  # fmt: skip
        try:
            self._group.commit_now(gaps)
        except TransientError as error:  # all records are settled: whoever goes on finds nothing but the gaps
            self._log.warning("end of the replay not committed", group=self._group.group_id, text=str(error))
            return
        self._move_on(gaps)

    def _answered(self, offsets: Offsets) -> None:
        self._move_on(offsets)
        self._listener.on_committed(offsets)

    def _move_on(self, offsets: Offsets) -> None:
        before = sum(self._committed.values())
        for at, offset in offsets.items():  # an answer that was overtaken by a later commit takes nothing back
            self._committed[at] = max(offset, self._committed[at])
        moved = sum(self._committed.values()) - before
        if moved:
            self._on_settled(moved)

    def _read_from(self, starts: Offsets) -> RangeReader:
        return self._open_reader([Range(at, min(starts[at], end), end) for at, end in self._ends.items()])
