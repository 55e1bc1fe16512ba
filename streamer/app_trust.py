"""What watches over labels, put together: drift, and a shadow beside the road. A part of the composition root `app.py`.

Enters: Settings. Leaves: Observers for the loop, and a shadow that runs while its context is entered. Heavy libraries
are imported where they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from streamer.app import ACCELERATOR_WINDOW_RECORDS, Connection, build_classifier, facts_of_topics, shadow_topics_of
from streamer.drift.baseline import read_baseline
from streamer.drift.watch import DriftObserver
from streamer.engine.base import Classifier, ModelInfo
from streamer.facets import LabelSet
from streamer.observe import Observer
from streamer.settings import Settings
from streamer.settings_trust import ModelSettings, ShadowSettings
from streamer.shadow.intake import Intake, Yielding
from streamer.shadow.observer import ShadowObserver
from streamer.shadow.share import Share
from streamer.shadow.worker import ShadowWorker
from streamer.transport.base import Sink

if TYPE_CHECKING:
    from streamer.transport.kafka_admin import TopicFacts

# of the shadow: windows so small that what comes in meanwhile hardly waits, and little memory
CPU_SHADOW_RECORDS, ACCELERATOR_SHADOW_RECORDS = 4, ACCELERATOR_WINDOW_RECORDS // 16
WAITING_BYTES = 8_000_000
SEND_MEMORY_MB = 8
FLUSH_S = 0.5
RETRY_S = 5.0


def build_drift(settings: Settings) -> DriftObserver | None:
    """What watches for drift, None where the settings want none. Raises UsageError for a baseline that is none."""
    drift = settings.drift
    if drift is None:
        return None
    return DriftObserver(
        baseline={} if drift.baseline is None else read_baseline(drift.baseline),
        window_records=drift.window_records,
        sample_every=drift.sample_every,
    )


@contextmanager
def shadowing(
    settings: Settings,
    *,
    connection: Connection,
    road_model: ModelInfo,
    label_sets: Mapping[str, LabelSet],
    observer: Observer,
) -> Iterator[Observer]:
    """The shadow of the settings, at work until the context ends; an Observer for the loop, which does nothing where
    there is no shadow. Raises UsageError where a side topic is missing; all else that fails is told to the log."""
    shadow = settings.shadow
    if shadow is None:
        yield Observer()
        return
    topics = facts_of_topics(shadow_topics_of(settings), connection)
    intake = Intake(most_records=shadow.max_waiting_records, most_bytes=WAITING_BYTES)
    yielding = Yielding()
    road = ShadowObserver(
        share=Share({topic: one.share for topic, one in shadow.streams.items()}),
        intake=intake,
        yielding=yielding,
        names={topic: one.label_set for topic, one in shadow.streams.items()},
        label_sets=label_sets,
        observer=observer,
    )
    slow = road_model.device == "cpu"
    worker = ShadowWorker(
        open_=partial(_opened, settings, shadow, connection, topics),
        intake=intake,
        yielding=yielding,
        label_sets=road.label_sets,
        topics={topic: one.topic for topic, one in shadow.streams.items()},
        road_model=road_model,
        observer=observer,
        window_records=CPU_SHADOW_RECORDS if slow else ACCELERATOR_SHADOW_RECORDS,
        max_busy=shadow.max_busy,
        retry_s=RETRY_S,
    )
    worker.start()
    try:
        yield road
    finally:
        worker.stop()


def shadow_model(settings: Settings, shadow: ShadowSettings) -> ModelSettings:
    """The shadow's own model, or the road's once more."""
    return shadow.model or settings.model


@contextmanager
def _opened(
    settings: Settings, shadow: ShadowSettings, connection: Connection, topics: Mapping[str, TopicFacts]
) -> Iterator[tuple[Classifier, Sink]]:
    """A model of one thread, so that a CPU's other cores stay the road's, and a producer of its own: what it sends
    is in no transaction."""
    from streamer.transport.kafka_sink import KafkaSink

    model = shadow_model(settings, shadow)
    classifier = build_classifier(model, max_tokens=settings.batching.max_tokens, device_threads=1)
    try:
        sink = KafkaSink(
            bootstrap_servers=connection.bootstrap_servers,
            properties=connection.properties,
            buffer_memory_mb=SEND_MEMORY_MB,
            topics=topics,
        )
        try:
            yield classifier, sink
            sink.flush(FLUSH_S)
        finally:
            sink.close()
    finally:
        classifier.close()
