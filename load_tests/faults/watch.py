"""Looking on while a fault run goes on: a read_committed reader, and samples of the group's committed offsets.

Enters: an address and topic names. Leaves: Seen and Samples, and the offsets that tell when all is done. Each has a
thread of its own, because the run's own loop must never wait for a broker that it has just killed.
Must not know: what is done to processes and brokers.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, Protocol

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from load_tests.faults.evidence import Sample, Seen
from load_tests.faults.traffic import as_seen
from load_tests.harness import REQUEST_S, LoadTestError
from streamer.records import Partition, Position

SAMPLE_S = 0.25
ASK_S = 5.0
READ_S = 0.2
READ_RECORDS = 5000


class Offsets:
    """Questions for offsets, asked by consumers that never join. All raise KafkaException when the cluster does not
    answer within `timeout_s`. Not by an admin client: librdkafka's aborts the process now and then when the broker
    that it asks is killed."""

    def __init__(self, bootstrap_servers: str, group: str) -> None:
        common = {"bootstrap.servers": bootstrap_servers, "group.id": group, "log_level": 0}
        self._any = Consumer({**common, "isolation.level": "read_uncommitted"})
        self._stable = Consumer({**common, "isolation.level": "read_committed"})

    def partitions(self, topics: Collection[str], timeout_s: float) -> list[Partition]:
        found = self._any.list_topics(timeout=timeout_s).topics
        return [Partition(topic, number) for topic in topics for number in found[topic].partitions]

    def ends(self, partitions: Collection[Partition], *, stable: bool, timeout_s: float) -> dict[Partition, int]:
        """The offset after the last record; `stable`: after the last one that no open transaction holds back."""
        asked = [TopicPartition(*partition, OFFSET_END) for partition in partitions]
        client = self._stable if stable else self._any
        try:
            return _told(client.offsets_for_times(asked, timeout=timeout_s))
        except KafkaException:
            # it would go on asking the leaders it knows of, but for this
            client.list_topics(timeout=timeout_s)
            return _told(client.offsets_for_times(asked, timeout=timeout_s))

    def committed(self, partitions: Collection[Partition], timeout_s: float) -> dict[Partition, int]:
        """What the group has committed, without partitions it has not committed anything for."""
        asked = [TopicPartition(*partition) for partition in partitions]
        return _told(self._any.committed(asked, timeout=timeout_s))


def _told(answers: Collection[TopicPartition]) -> dict[Partition, int]:
    for answer in answers:
        if answer.error is not None:
            raise KafkaException(answer.error)
    return {Partition(answer.topic, answer.partition): answer.offset for answer in answers if answer.offset >= 0}


class Watcher:
    """Reads topics from their beginning, committed records only, for as long as it is not stopped."""

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        partitions: Collection[Partition],
        dead_letters: str,
        clock: Callable[[], float],
    ) -> None:
        self.seen: list[Seen] = []
        self.troubles: list[str] = []
        self._ended: set[Position] = set()  # inputs met so far
        self._eof: dict[Partition, int] = {}
        self._dead_letters = dead_letters
        self._clock = clock
        self._stop = Event()
        self._failure: Exception | None = None
        self._reader = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": f"watcher-{uuid.uuid4().hex}",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "log_level": 0,
            }
        )
        self._reader.assign([TopicPartition(*partition, 0) for partition in partitions])
        self._thread = Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> int:
        """How many input records have come out."""
        return len(self._ended)

    def finish(self, ends: Mapping[Partition, int], timeout_s: float) -> None:
        """Read up to `ends` and stop. Raises LoadTestError when that takes too long, or when reading failed."""
        deadline_s = time.monotonic() + timeout_s
        while any(self._eof.get(partition, 0) < end for partition, end in ends.items()):
            if self._failure is not None or time.monotonic() > deadline_s:
                self.stop()
                raise LoadTestError(f"the concurrent reader did not reach the end: {self._failure or self.troubles}")
            time.sleep(READ_S)
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(REQUEST_S)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for message in self._reader.consume(READ_RECORDS, READ_S):
                    self._take(message)
        except Exception as error:  # told by finish(), in the thread that can act on it
            self._failure = error
        finally:
            self._reader.close()

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is None:
            one = as_seen(message, self._dead_letters, self._clock())
            self.seen.append(one)
            self._ended.add(one.of)
        elif error.code() == KafkaError._PARTITION_EOF:
            self._eof[Partition(message.topic() or "", message.partition() or 0)] = message.offset() or 0
        else:
            self.troubles.append(f"{self._clock():.1f} s: {error}")


class Sampler:
    """Samples committed offsets, and after each answer the ends of what is written, a few times a second."""

    def __init__(
        self,
        *,
        offsets: Offsets,
        inputs: Collection[Partition],
        written: Collection[Partition],
        clock: Callable[[], float],
    ) -> None:
        self.samples: list[Sample] = []
        self.missed: Counter[str] = Counter()  # samples that could not be taken, by why
        self._ask: Callable[[], Sample] = lambda: self._sample(offsets, inputs, written)
        self._clock = clock
        self._stop = Event()
        self._thread = Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()

    @property
    def committed(self) -> Mapping[Partition, int]:
        """As of the last sample."""
        return self.samples[-1].committed if self.samples else {}

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(REQUEST_S)

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            try:
                self.samples.append(self._ask())
            except KafkaException as error:
                self.missed[str(error.args[0].name())] += 1

    def _sample(self, offsets: Offsets, inputs: Collection[Partition], written: Collection[Partition]) -> Sample:
        committed = offsets.committed(inputs, ASK_S)
        return Sample(self._clock(), committed, offsets.ends(written, stable=False, timeout_s=ASK_S))


class Stoppable(Protocol):
    def stop(self) -> None:
        """May be called again."""


@contextmanager
def stopping(*running: Stoppable) -> Iterator[None]:
    """Stops them when the context ends, however it ends."""
    try:
        yield
    finally:
        for one in running:
            one.stop()


def transactions_end(offsets: Offsets, written: Collection[Partition], timeout_s: float) -> dict[Partition, int]:
    """Wait until no transaction is open; returns the ends. Raises LoadTestError when one stays open."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        ends = offsets.ends(written, stable=False, timeout_s=REQUEST_S)
        stable = offsets.ends(written, stable=True, timeout_s=REQUEST_S)
        hanging: list[Any] = [partition for partition in written if stable[partition] < ends[partition]]
        if not hanging:
            return ends
        if time.monotonic() > deadline_s:
            raise LoadTestError(f"a transaction hangs in {', '.join(f'{p.topic}-{p.partition}' for p in hanging)}")
        time.sleep(SAMPLE_S)
