"""Composition root: the only place that names concrete classes.

Enters: Settings. Leaves: a Classifier, a running Pipeline. Heavy libraries are imported where they are needed, so
that wrong settings are told before torch is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.decode import Decoder
from streamer.delivery import AtLeastOnce, Delivery
from streamer.encode import Encoder
from streamer.engine.base import Classifier, Embedder
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.gather import Gather
from streamer.observe import Observer
from streamer.pipeline import Pipeline
from streamer.records import Stream
from streamer.settings import EMBEDDED, ModelSettings, Settings
from streamer.traces import NO_TRACES, Traces
from streamer.transactions import ExactlyOnce
from streamer.transport.base import Source

if TYPE_CHECKING:
    from streamer.engine.uniencoder import UniEncoderBackend
    from streamer.transport.kafka_admin import TopicFacts

REACH_TIMEOUT_S = 10.0
TRANSACTION_BYTES = 16_000_000
BUNDLED, FAKE = "bundled", "fake"
FAKE_WINDOW_TOKENS = 512
CPU_WINDOW_RECORDS, ACCELERATOR_WINDOW_RECORDS = 128, 1024


def bundled_directory() -> Path:
    """Where the bundled model lies."""
    return Path(str(files("streamer.models") / "default"))


def model_directory(model: ModelSettings) -> Path:
    """The directory of a model's files, fetched from the hub if it is no directory here. Raises UsageError."""
    if model.name == BUNDLED:
        return bundled_directory()
    if model.name == FAKE:
        raise UsageError("the model 'fake' has no files; name another")
    from streamer.engine.loading import resolve_model

    return resolve_model(model.name, revision=model.revision, cache_dir=None)


def build_classifier(model: ModelSettings, *, max_tokens: int | str, device_threads: int | None = None) -> Classifier:
    """Load a model; raises UsageError for a name, device or architecture that cannot be had.

    `device_threads`: how many batches are scored side by side, None for as many as are best on the device.
    """
    if model.name == FAKE:
        from streamer.engine.fake import FakeClassifier

        record_s = model.service_time_ms / 1000
        tokens = max_tokens if isinstance(max_tokens, int) else FAKE_WINDOW_TOKENS * ACCELERATOR_WINDOW_RECORDS
        return FakeClassifier(window_tokens=FAKE_WINDOW_TOKENS, max_tokens=tokens, window_s=0.0, record_s=record_s)
    if model.service_time_ms:
        raise UsageError("model.service_time_ms is for the model 'fake' only; remove it")
    from streamer.engine.bundled import BundledBackend
    from streamer.engine.devices import (
        batch_cost_tokens,
        choose_device,
        choose_device_threads,
        choose_dtype,
        choose_max_tokens,
        on_one_thread,
        thread_setter,
    )
    from streamer.engine.independent import ARCHITECTURE
    from streamer.engine.loading import read_config
    from streamer.engine.scoring import BatchingClassifier
    from streamer.engine.varlen import choose_kernels

    device = choose_device(model.device)
    dtype = choose_dtype(model.dtype, device)
    directory = model_directory(model)
    backend: BundledBackend | UniEncoderBackend
    with on_one_thread(device):
        if read_config(directory).get("architecture_type") == ARCHITECTURE:
            backend = BundledBackend(
                directory=directory, name=model.name, device=device, dtype=dtype, choose_kernels=choose_kernels
            )
        else:
            from streamer.engine.uniencoder import open_uniencoder  # and transformers with it

            backend = open_uniencoder(
                directory,
                facet_mode=model.facet_mode,
                device=device,
                dtype=dtype,
                choose_kernels=choose_kernels,
                max_row_tokens=model.max_row_tokens,
                name=model.name,
            )
    return BatchingClassifier(
        backend=backend,
        max_tokens=choose_max_tokens(max_tokens, device),
        batch_cost_tokens=batch_cost_tokens(device) if backend.pads else None,
        device_threads=device_threads or choose_device_threads(device),
        set_threads=thread_setter(device),
    )


def build_embedder(model: ModelSettings) -> Embedder | None:
    """A model that makes vectors of texts and labels; None for one that reads labels only beside a text.

    Raises UsageError for a name or device that cannot be had.
    """
    if model.name == FAKE:
        return None
    from streamer.engine.bundled import BundledBackend
    from streamer.engine.devices import choose_device, choose_dtype
    from streamer.engine.independent import ARCHITECTURE
    from streamer.engine.loading import read_config
    from streamer.engine.varlen import choose_kernels

    directory = model_directory(model)
    if read_config(directory).get("architecture_type") != ARCHITECTURE:
        return None
    device = choose_device(model.device)
    dtype = choose_dtype(model.dtype, device)
    return BundledBackend(
        directory=directory, name=model.name, device=device, dtype=dtype, choose_kernels=choose_kernels
    )


def with_cache(classifier: Classifier, model: ModelSettings) -> Classifier:
    """The classifier, behind a memory of its latest scores where the settings want one.

    The fake never has one: what is measured with it is its service time, and its texts repeat.
    """
    if not model.cache_memory_mb or model.name == FAKE:
        return classifier
    from streamer.engine.cache import CachingClassifier

    return CachingClassifier(inner=classifier, max_bytes=model.cache_memory_mb * 1024 * 1024)


def device_memory_of(device: str) -> Callable[[], Mapping[str, int]]:
    """What tells the bytes of a model's device by state; nothing where it has no memory of its own."""
    if not device.startswith("cuda"):
        return dict
    from streamer.engine.devices import device_memory

    return partial(device_memory, device)


@dataclass(frozen=True, slots=True)
class Connection:
    """How clients reach the broker."""

    bootstrap_servers: str
    properties: Mapping[str, str | int | float | bool]
    embedded: bool


@contextmanager
def connect(settings: Settings) -> Iterator[Connection]:
    """The cluster of the settings, or an embedded broker that lives as long as the context."""
    properties = settings.kafka.client_properties()
    if settings.kafka.bootstrap_servers != EMBEDDED:
        yield Connection(settings.kafka.bootstrap_servers, properties, embedded=False)
        return
    from streamer.transport.embedded import EmbeddedBroker

    with EmbeddedBroker(brokers=1) as broker:
        broker.create_topics({**topics_of(settings), **shadow_topics_of(settings)})
        needed = broker.client_properties(settings.kafka.group_protocol)
        yield Connection(broker.bootstrap_servers, {**needed, **properties}, embedded=True)


def topics_of(settings: Settings) -> dict[str, str]:
    """Every topic the settings name -> what it is for."""
    topics: dict[str, str] = {}
    for stream in settings.streams:
        topics.setdefault(stream.topic, "input")
        topics.setdefault(stream.output, f"output of '{stream.topic}'")
        topics.setdefault(stream.dead_letter, f"dead letters of '{stream.topic}'")
        for route in settings.label_sets[stream.label_set].routes:
            topics.setdefault(route.to, f"route of '{stream.topic}'")
    return topics


def shadow_topics_of(settings: Settings) -> dict[str, str]:
    """The side topics of the shadow, which the road never writes to -> what they are for."""
    streams = {} if settings.shadow is None else settings.shadow.streams
    return {one.topic: f"shadow events of '{topic}'" for topic, one in streams.items()}


def require_topics(settings: Settings, connection: Connection, *, known: Collection[str]) -> dict[str, TopicFacts]:
    """Facts of every topic but the `known`. Raises UsageError where the broker cannot be reached or one is missing.

    An embedded broker makes its topics itself, and has no facts to tell.
    """
    return facts_of_topics({topic: use for topic, use in topics_of(settings).items() if topic not in known}, connection)


def facts_of_topics(topics: Mapping[str, str], connection: Connection) -> dict[str, TopicFacts]:
    """The same for topics given with what they are for."""
    if connection.embedded or not topics:
        return {}
    from streamer.transport.kafka_admin import topic_facts

    facts = topic_facts(connection.bootstrap_servers, connection.properties, list(topics), REACH_TIMEOUT_S)
    missing = [f"'{topic}' ({use})" for topic, use in topics.items() if topic not in facts]
    if missing:
        raise UsageError(
            f"{connection.bootstrap_servers} lacks {', '.join(missing)}; "
            "create what is missing (kafka-topics.sh --create --topic NAME), or grant the right to see it"
        )
    return facts


def take_up_topics(settings: Settings, *, connection: Connection, known: dict[str, TopicFacts]) -> None:
    """Add facts of the topics that new label sets name to the `known` ones, which sinks go by.

    Raises UsageError where one is missing, or takes less than batches already hold.
    """
    found = require_topics(settings, connection, known=known)
    limits = [facts.max_message_bytes for facts in known.values() if facts.max_message_bytes is not None]
    for topic, facts in found.items():
        if facts.max_message_bytes is not None and facts.max_message_bytes < min(limits, default=0):
            raise UsageError(
                f"restart needed: topic '{topic}' takes messages of at most {facts.max_message_bytes} bytes, fewer "
                "than any topic before"
            )
    known.update(found)


def window_records(settings: Settings, classifier: Classifier) -> int:
    """How many records a window holds at most."""
    wanted = settings.batching.max_records
    if isinstance(wanted, int):
        return wanted
    slow = classifier.describe().device == "cpu" and settings.model.name != FAKE
    return CPU_WINDOW_RECORDS if slow else ACCELERATOR_WINDOW_RECORDS


def build_source(settings: Settings, connection: Connection) -> Source:
    """A member of the settings' consumer group."""
    from streamer.transport.kafka_source import KafkaSource

    kafka = settings.kafka
    return KafkaSource(
        bootstrap_servers=connection.bootstrap_servers,
        group_id=kafka.group_id,
        topics=[stream.topic for stream in settings.streams],
        properties=connection.properties,
        auto_offset_reset=kafka.auto_offset_reset,
        group_protocol=kafka.group_protocol,
        group_instance_id=kafka.group_instance_id,
        fetch_memory_mb=kafka.fetch_memory_mb,
    )


def build_delivery(
    settings: Settings,
    *,
    connection: Connection,
    source: Source,
    topics: Mapping[str, TopicFacts],
    observer: Observer,
) -> Delivery:
    """What the settings promise about records of this source."""
    from streamer.transport.kafka_sink import KafkaSink
    from streamer.transport.kafka_transactions import KafkaTransactionalSink

    limits = settings.limits
    interval_s = limits.commit_interval_ms / 1000
    sink: dict[str, Any] = {
        "bootstrap_servers": connection.bootstrap_servers,
        "properties": connection.properties,
        "buffer_memory_mb": settings.kafka.send_memory_mb,
        "topics": topics,
    }
    if settings.delivery == "at_least_once":
        return AtLeastOnce(
            source=source,
            sink=KafkaSink(**sink),
            observer=observer,
            commit_interval_s=interval_s,
            clock=time.monotonic,
            sleep=time.sleep,
        )
    transactional = KafkaTransactionalSink(
        **sink,
        transactional_id=settings.transactional_id(),
        transaction_timeout_s=limits.transaction_timeout_s,
        commit_deadline_s=limits.commit_deadline_s,
    )
    return ExactlyOnce(
        source=source,
        sink=transactional,
        observer=observer,
        commit_interval_s=interval_s,
        most_bytes=TRANSACTION_BYTES,
        longest_s=limits.transaction_timeout_s / 4,
        recover_s=limits.commit_deadline_s,
        clock=time.monotonic,
    )


def build_pipeline(
    settings: Settings,
    *,
    source: Source,
    delivery: Delivery,
    streams: Sequence[Stream],
    classifier: Classifier,
    label_sets: Mapping[str, LabelSet],
    observer: Observer,
    reload: Callable[[], Mapping[str, LabelSet] | None] = lambda: None,
    traces: Traces = NO_TRACES,
) -> Pipeline:
    """The road from a source to a delivery."""
    limits, batching = settings.limits, settings.batching
    by_topic = {stream.topic: stream for stream in streams}
    records = window_records(settings, classifier)
    return Pipeline(
        source=source,
        delivery=delivery,
        classifier=classifier,
        decoder=Decoder(streams=by_topic, label_sets=label_sets),
        gather=Gather(
            weights={stream.topic: stream.weight for stream in streams},
            max_records=records,
            max_bytes=batching.max_bytes,
            max_wait_s=batching.max_wait_ms / 1000,
        ),
        encoder=Encoder(model=classifier.describe(), max_dead_letter_bytes=limits.max_dead_letter_bytes),
        streams=by_topic,
        observer=observer,
        traces=traces,
        reload=reload,
        poll_records=records,
        window_s=batching.window_ms / 1000,
        max_uncommitted_records=limits.max_uncommitted_records,
        drain_timeout_s=limits.drain_timeout_s,
    )
