"""How far a replay came, kept where Kafka keeps offsets: in a consumer group of its own, which nobody joins.

Enters: the ranges of a replay, then offsets that are settled. Leaves: both again, for whoever goes on with it. Each
committed offset carries its range as metadata, so that a replay of "the last two hours" that was interrupted goes on
with the range it began with. Must not know: records, how they are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streamer.errors import StreamerError, TransientError, UsageError
from streamer.records import Partition
from streamer.transport.base import Offsets
from streamer.transport.kafka_client import Failures, Properties, configuration, connect, reason
from streamer.transport.kafka_range import Range

_REQUEST_TIMEOUT_S = 5.0
_MARK = re.compile(r"streamer-replay ([0-9a-f]+) ([0-9]+) ([0-9]+)")

# a commit from outside of a group is refused so while the group has members
_HAS_MEMBERS = frozenset(
    {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS}
)


@dataclass(frozen=True, slots=True)
class Progress:
    """A range, and how far its replay came: what lies below `next_offset` is settled."""

    range: Range
    next_offset: int

    @property
    def left(self) -> int:
        """Offsets still to read."""
        return max(0, self.range.end - self.next_offset)


class ReplayGroup:
    """The offsets of one replay, driven by one thread.

    `identity` (hex digits) tells replays apart: offsets of another one, or of anything else, are never overwritten.
    Raises UsageError for properties that librdkafka does not take.
    """

    def __init__(self, *, bootstrap_servers: str, properties: Properties, group_id: str, identity: str) -> None:
        self.group_id = group_id
        self._identity = identity
        self._ranges: dict[Partition, Range] = {}
        self._failures = Failures(bootstrap_servers)
        self._log = structlog.get_logger()
        self._on_answer: Callable[[Offsets], object] = lambda offsets: None
        self._open = True
        ours: dict[str, object] = {
            "group.id": group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "error_cb": self._failures.on_client_error,
            "on_commit": self._on_commit,
        }
        self._consumer: Consumer = connect(Consumer, configuration(bootstrap_servers, properties, ours))

    def read(self, partitions: Collection[Partition]) -> list[Progress]:
        """What the replay has settled of these partitions; none of them when it has not begun.

        Raises UsageError when the group holds offsets of something else, TransientError when the broker does not
        answer.
        """
        found = []
        for tp in self._committed(partitions):
            if tp.offset < 0:
                continue
            mark = _MARK.fullmatch(tp.metadata or "")
            if mark is None:
                raise UsageError(
                    f"group '{self.group_id}' holds offsets of '{tp.topic}' that are no replay's; name another --group"
                )
            if mark[1] != self._identity:
                raise UsageError(
                    f"group '{self.group_id}' belongs to a replay of '{tp.topic}' with another range, target, "
                    "label set or model; name another --group"
                )
            at = Partition(tp.topic, tp.partition)
            found.append(Progress(Range(at, int(mark[2]), int(mark[3])), tp.offset))
        self._ranges = {one.range.at: one.range for one in found}
        return found

    def begin(self, ranges: Sequence[Range]) -> list[Progress]:
        """Take up a replay of these ranges; raises as `commit_now` does."""
        self._ranges = {one.at: one for one in ranges}
        self.commit_now({one.at: one.begin for one in ranges})
        return [Progress(one, one.begin) for one in ranges]

    def commit_now(self, offsets: Offsets) -> None:
        """Commit and wait for the answer. Raises TransientError when the broker does not answer in time, UsageError
        when rights are missing or the group has members."""
        if not offsets:
            return
        # a commit has no timeout and would wait for a coordinator that is away; a question is bounded
        self._committed(offsets)
        try:
            for done in self._consumer.commit(offsets=self._marked(offsets), asynchronous=False):
                if done.error is not None:
                    raise KafkaException(done.error)
        except KafkaException as error:
            raise self._reaction(error.args[0]) from None

    def commit_soon(self, offsets: Offsets) -> None:
        """Commit; who asked by `on_answer` is told from inside a later `serve`. Raises as `serve` does."""
        try:
            self._consumer.commit(offsets=self._marked(offsets), asynchronous=True)
        except KafkaException as error:
            raise self._reaction(error.args[0]) from None

    def on_answer(self, hook: Callable[[Offsets], object]) -> None:
        """Who is told what a `commit_soon` came to: its offsets, or none when it failed, which is logged."""
        self._on_answer = hook

    def serve(self, timeout_s: float) -> None:
        """Serve answers, waiting at most `timeout_s` for the first. Raises UsageError for a refused login, missing
        rights and a group with members, FatalError when the client cannot go on."""
        self._consumer.poll(timeout_s)
        self._failures.raise_first()

    def close(self) -> None:
        """Let go of the broker."""
        if self._open:
            self._open = False
            self._consumer.close()

    def _committed(self, partitions: Iterable[Partition]) -> list[TopicPartition]:
        asked = [TopicPartition(*at) for at in partitions]
        try:
            answers: list[TopicPartition] = self._consumer.committed(asked, timeout=_REQUEST_TIMEOUT_S)
        except KafkaException as error:
            self._consumer.poll(0)  # why it failed is told by a callback, which runs only here
            self._failures.raise_first()
            raise self._reaction(error.args[0]) from None
        for answer in answers:
            if answer.error is not None:
                raise self._reaction(answer.error)
        return answers

    def _marked(self, offsets: Offsets) -> list[TopicPartition]:
        marked = []
        for at, offset in offsets.items():
            one = self._ranges[at]
            marked.append(TopicPartition(*at, offset, f"streamer-replay {self._identity} {one.begin} {one.end}"))
        return marked

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Runs inside the client, which must not be raised through."""
        if not self._open:
            return
        failed = next((one for one in [error, *(tp.error for tp in partitions)] if one is not None), None)
        if failed is None:
            self._on_answer({Partition(tp.topic, tp.partition): tp.offset for tp in partitions})
            return
        reaction = self._reaction(failed)
        if isinstance(reaction, TransientError):
            self._log.warning("commit failed", group=self.group_id, text=reason(failed))
        else:
            self._failures.keep(reaction)
        self._on_answer({})

    def _reaction(self, error: KafkaError) -> StreamerError:
        if error.code() in _HAS_MEMBERS:
            return UsageError(
                f"group '{self.group_id}' has members; a replay needs one of its own: name another --group"
            )
        return self._failures.reaction(error)
