"""Records through the real loop at the times they are due, whether or not it keeps up.

Enters: a warm Classifier, texts, and when each is due. Leaves: for every record when it was due and when its event was
handed to the sink, and how full windows were. An open loop: a record that finds the loop busy has been waiting since
it was due, so nothing is omitted that a producer elsewhere would have seen. Source and sink are in memory; decoding,
gathering, the engine, deciding, encoding and committing are those of `streamer run`. Must not know: which loads are
asked for, percentiles, Kafka.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from time import perf_counter

import orjson

from streamer.app import build_pipeline
from streamer.bench.texts import bench_labels
from streamer.delivery import AtLeastOnce
from streamer.engine.base import Classifier, EngineFacts
from streamer.errors import FatalError
from streamer.observe import Observer
from streamer.records import Envelope, Outbound
from streamer.settings import EMBEDDED, ModelSettings, Settings, build_settings
from streamer.transport.base import OnDelivered
from streamer.transport.memory import MemoryBroker, MemorySource

TOPIC, OUTPUT, DEAD = "bench", "bench.labelled", "bench.dead"


@dataclass(frozen=True, slots=True)
class Driven:
    """What became of each record, in the order they were due: seconds from the start. `windows`: when each came back
    from the engine, and its documents. `batches` counts what the engine gave the device."""

    due_s: tuple[float, ...]
    done_s: tuple[float, ...]
    windows: tuple[tuple[float, int], ...]
    batches: int

    @property
    def latencies_s(self) -> list[float]:
        """Of each record, from when it was due."""
        return [done - due for due, done in zip(self.due_s, self.done_s, strict=True)]


def bench_settings(model: ModelSettings) -> Settings:
    """Settings of a process that labels the benchmark's records: what is not said here is as in production."""
    facets = {
        facet.name: {"kind": str(facet.kind), "labels": [label.name for label in facet.labels]}
        for facet in bench_labels().facets
    }
    content = {
        "kafka": {"bootstrap_servers": EMBEDDED},
        "model": model.model_dump(),
        "label_sets": {"bench": {"facets": facets}},
        "streams": [{"topic": TOPIC, "output": OUTPUT, "dead_letter": DEAD, "label_set": "bench"}],
    }
    return build_settings(content, origin="the benchmark's own settings")


def drive(*, classifier: Classifier, settings: Settings, texts: Sequence[str], due_s: Sequence[float]) -> Driven:
    """Send text i on the road `due_s[i]` seconds after its first poll (in ascending order); returns when all are done.

    Raises FatalError for a record that could not be labelled.
    """
    stop = Event()
    broker = MemoryBroker(partitions=1, max_message_bytes=1 << 20, now_ms=lambda: time.time_ns() // 1_000_000)
    source = _DueSource(broker, texts, due_s)
    sink = _EndSink(len(texts), stop)
    meter = _Meter()
    limits = settings.limits
    delivery = AtLeastOnce(
        source=source,
        sink=sink,
        observer=meter,
        commit_interval_s=limits.commit_interval_ms / 1000,
        clock=time.monotonic,
        sleep=time.sleep,
    )
    pipeline = build_pipeline(
        settings,
        source=source,
        delivery=delivery,
        streams=settings.build_streams(),
        classifier=classifier,
        label_sets=settings.build_label_sets(),
        observer=meter,
    )
    with _spared_collector():
        pipeline.run(stop)
    start_s = source.start_s or 0.0
    return Driven(
        due_s=tuple(due_s),
        done_s=tuple(at_s - start_s for at_s in sink.given_s),
        windows=tuple((at_s - start_s, documents) for at_s, documents in meter.windows),
        batches=meter.batches,
    )


@contextmanager
def _spared_collector() -> Iterator[None]:
    """What is loaded by now is left out of garbage collection, and the rest looked through rarely, as `streamer run`
    does."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


class _DueSource(MemorySource):
    """Writes a record to its topic when it is due, as a producer elsewhere would; `poll` waits for one."""

    def __init__(self, broker: MemoryBroker, texts: Sequence[str], due_s: Sequence[float]) -> None:
        super().__init__(broker=broker, group_id="bench", topics=[TOPIC], auto_offset_reset="earliest")
        broker.create_topic(TOPIC)
        self._topic = broker
        self._values = [orjson.dumps({"id": i, "text": text}) for i, text in enumerate(texts)]
        self._due_s = due_s
        self._written = 0
        self.start_s: float | None = None  # the first poll

    def poll(self, max_records: int, timeout_s: float) -> list[Envelope[None]]:
        if self.start_s is None:
            self.start_s = perf_counter()
        self._write_due(self.start_s)
        found = super().poll(max_records, 0.0)
        if found or timeout_s <= 0.0:
            return found
        if self._written < len(self._due_s):
            timeout_s = min(timeout_s, max(0.0, self.start_s + self._due_s[self._written] - perf_counter()))
        time.sleep(timeout_s)
        self._write_due(self.start_s)
        return super().poll(max_records, 0.0)

    def _write_due(self, start_s: float) -> None:
        passed_s = perf_counter() - start_s
        while self._written < len(self._due_s) and self._due_s[self._written] <= passed_s:
            self._topic.produce(TOPIC, self._values[self._written], key=b"%d" % self._written)
            self._written += 1


class _EndSink:
    """Notes when it was given each event, acknowledges it at the next flush, and sets `stop` with the last one."""

    def __init__(self, records: int, stop: Event) -> None:
        self.given_s = [0.0] * records
        self._left = records
        self._stop = stop
        self._unreported: deque[OnDelivered] = deque()

    @property
    def full(self) -> bool:
        return False

    def send(self, message: Outbound, on_delivered: OnDelivered) -> None:
        if message.dead_letter or message.key is None:
            raise FatalError("a record of the benchmark was not labelled")
        self.given_s[int(message.key)] = perf_counter()
        self._unreported.append(on_delivered)
        self._left -= 1
        if not self._left:
            self._stop.set()

    def flush(self, timeout_s: float) -> int:
        while self._unreported:
            self._unreported.popleft()(None)
        return 0

    def close(self) -> None:
        self._unreported.clear()


class _Meter(Observer):
    """Notes windows that come back, and counts device batches."""

    def __init__(self) -> None:
        self.windows: list[tuple[float, int]] = []
        self.batches = 0

    def scored(self, facts: EngineFacts, engine_s: float) -> None:
        self.windows.append((perf_counter(), facts.documents))
        self.batches += facts.batches
