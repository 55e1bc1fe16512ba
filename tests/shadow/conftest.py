"""A shadow whose engine does what a test asks of it, and what it told."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from streamer.engine.base import Classifier, ModelInfo, Pending, WindowScores
from streamer.engine.fake import FakeClassifier
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.observe import Observer
from streamer.records import Document, Envelope, FacetVerdict, Outbound, Position, Verdict
from streamer.shadow.intake import Intake, Yielding
from streamer.shadow.observer import ShadowObserver
from streamer.shadow.share import Share
from streamer.shadow.worker import ShadowWorker
from streamer.transport.base import DeliveryOutcome, Sink
from streamer.transport.memory import MemorySink
from streamer.transport.memory_broker import MemoryBroker
from tests.columns import columns_of

MOOD = Facet("mood", Kind.SINGLE, (Label("bad"), Label("good")))
TOPIC = Facet("topic", Kind.MULTI, (Label("billing"), Label("outage")))
ROAD_LABELS = LabelSet("tickets", (MOOD, TOPIC))
NEXT_LABELS = LabelSet("tickets-next", (MOOD, Facet("urgency", Kind.SINGLE, (Label("low"), Label("high")))))
ROAD_MODEL = ModelInfo(name="small", revision="abc", device="cpu", dtype="float32", window_tokens=100)
SIDE_TOPIC = "tickets.shadow"
WAIT_S = 20.0


class Engine:
    """The fake engine, which can be told to hang, to fail, or to take its time."""

    def __init__(self) -> None:
        self._inner: Classifier = FakeClassifier(window_tokens=100, max_tokens=4000, window_s=0.0, record_s=0.0)
        self.hang = self.fail = False
        self.window_s = 0.0
        self.release = threading.Event()
        self.windows: list[int] = []
        self.closed = False

    def warm_up(self, label_sets: Sequence[LabelSet]) -> None:
        self._inner.warm_up(label_sets)

    def describe(self) -> ModelInfo:
        return self._inner.describe()

    def close(self) -> None:
        self.closed = True
        self._inner.close()

    def submit(self, documents: Sequence[Document]) -> Pending:
        self.windows.append(len(documents))
        if self.fail:
            raise RuntimeError("no such kernel")
        return _Pending(self, self._inner.submit(documents))


@dataclass(frozen=True)
class _Pending:
    engine: Engine
    inner: Pending

    def wait(self, timeout_s: float) -> WindowScores | None:
        if self.engine.hang:
            self.engine.release.wait(timeout_s)
            return None
        time.sleep(self.engine.window_s)
        return self.inner.wait(timeout_s)


class Told(Observer):
    """What the shadow said, on whichever thread."""

    def __init__(self) -> None:
        self.running: list[bool] = []
        self.agreed: list[Mapping[str, bool]] = []
        self.dropped: Counter[str] = Counter()
        self._changed = threading.Condition()

    def shadow_running(self, running: bool) -> None:
        with self._changed:
            self.running.append(running)
            self._changed.notify_all()

    def shadow_scored(self, topic: str, agreed: Sequence[Mapping[str, bool]]) -> None:
        with self._changed:
            self.agreed += agreed
            self._changed.notify_all()

    def shadow_dropped(self, topic: str, reason: str, records: int) -> None:
        with self._changed:
            self.dropped[reason] += records
            self._changed.notify_all()

    def wait_for(self, what: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(what, WAIT_S), (self.running, len(self.agreed), self.dropped)


@dataclass
class Shadow:
    """A shadow of the stream `tickets` on a memory broker, put together as the program does it."""

    engine: Engine = field(default_factory=Engine)
    told: Told = field(default_factory=Told)
    yielding: Yielding = field(default_factory=Yielding)
    share: float = 1.0
    window_records: int = 4
    max_busy: float = 1.0
    retry_s: float = 0.01
    most_records: int = 16
    most_bytes: int = 10_000
    label_sets: Mapping[str, LabelSet] = field(default_factory=lambda: {"tickets-next": NEXT_LABELS})
    most_unacknowledged: int = 1000
    deliver: Callable[[Outbound], DeliveryOutcome] = lambda message: None

    def __post_init__(self) -> None:
        self.broker = MemoryBroker(
            partitions=2, max_message_bytes=20_000, now_ms=lambda: 1_700_000_000_000, deliver=self.deliver
        )
        self.broker.create_topic(SIDE_TOPIC)
        self.sink = MemorySink(broker=self.broker, most=self.most_unacknowledged)
        self.opened = 0
        self.intake = Intake(most_records=self.most_records, most_bytes=self.most_bytes)
        self.road = ShadowObserver(
            share=Share({"tickets": self.share}),
            intake=self.intake,
            yielding=self.yielding,
            names={"tickets": "tickets-next"},
            label_sets=self.label_sets,
            observer=self.told,
        )
        self.worker = ShadowWorker(
            open_=self._open,
            intake=self.intake,
            yielding=self.yielding,
            label_sets=self.road.label_sets,
            topics={"tickets": SIDE_TOPIC},
            road_model=ROAD_MODEL,
            observer=self.told,
            window_records=self.window_records,
            max_busy=self.max_busy,
            retry_s=self.retry_s,
        )

    @contextmanager
    def _open(self) -> Iterator[tuple[Classifier, Sink]]:
        self.opened += 1
        yield self.engine, self.sink

    def start(self) -> None:
        self.worker.start()
        self.told.wait_for(lambda: bool(self.told.running))

    def stop(self) -> None:
        self.engine.release.set()
        self.worker.stop()
        self.engine.close()

    def offer(self, *texts: str, verdict: Verdict | None = None) -> None:
        """The road labelled records of these texts."""
        envelopes = [
            Envelope(Position("tickets", 0, offset), 0, b"k", (), 1_600_000_000_000, b"", Document(text, ROAD_LABELS))
            for offset, text in enumerate(texts)
        ]
        self.road.labelled(envelopes, columns_of([verdict or road_verdict()] * len(texts)))


def road_verdict(mood: str = "good") -> Verdict:
    facets = (
        FacetVerdict("mood", (mood,), {"bad": 0.2, "good": 0.8}, False),
        FacetVerdict("topic", ("billing",), {"billing": 0.9, "outage": 0.1}, False),
    )
    return Verdict(facets, (), ROAD_LABELS, False)


@pytest.fixture
def make_shadow() -> Iterator[Callable[..., Shadow]]:
    """Makes shadows, which are stopped in the end."""
    made: list[Shadow] = []

    def make(**given: Any) -> Shadow:
        made.append(Shadow(**given))
        return made[-1]

    yield make
    for one in made:
        one.stop()
