"""The loop with everything around it: telemetry, a warm model, label sets that may change.

Enters: Settings and a connection. Leaves: labelled records, until asked to stop. Must not know: concrete classes, which
app.py names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event

import structlog

from streamer.app import (
    Connection,
    build_classifier,
    build_delivery,
    build_pipeline,
    build_source,
    device_memory_of,
    require_topics,
    take_up_topics,
    window_records,
    with_cache,
)
from streamer.app_tracing import tracing
from streamer.app_trust import build_drift, shadowing
from streamer.drift.baseline import baseline_json
from streamer.drift.watch import DriftObserver
from streamer.engine.base import Classifier, ModelInfo
from streamer.facets import LabelSet
from streamer.memory import settle_memory
from streamer.observe import Observer, Observers
from streamer.page.live import PageOptions
from streamer.reload import reloading
from streamer.settings import Settings
from streamer.telemetry.bundle import Telemetry


def serve(
    settings: Settings,
    *,
    connection: Connection,
    stop: Event,
    observers: Sequence[Observer],
    settings_path: Path | None,
    on_model: Callable[[ModelInfo], object] = lambda info: None,
    on_page: Callable[[str], object] = lambda address: None,
) -> None:
    """Label records until `stop` is set: what `streamer run` and `streamer demo` both do.

    `settings_path` is read again while running, None for never. `on_page` is told where the live page is, then
    `on_model` what was loaded, before the first record is read. Raises UsageError for what the user can mend,
    FatalError or TransientError for what stopped the work.
    """
    topics = require_topics(settings, connection, known=())
    label_sets = settings.build_label_sets()
    streams = settings.build_streams()
    http = settings.http
    drift = build_drift(settings)
    with ExitStack() as running:
        traces, tracer = running.enter_context(tracing(settings))
        telemetry = running.enter_context(
            Telemetry(
                streams=streams,
                address=(http.host, http.port) if http.enabled else None,
                stuck_after_s=http.stuck_after_s,
                engine_stuck_after_s=http.engine_stuck_after_s,
                drift=None if drift is None else drift.drift,
                drift_json=None if drift is None else partial(_drift_json, drift),
                shadow=settings.shadow is not None,
                page=_page_options(settings),
            )
        )
        if telemetry.page_address is not None:
            structlog.get_logger().info("live page", address=telemetry.page_address, show_text=settings.page.show_text)
            on_page(telemetry.page_address)
        classifier = running.enter_context(_warm_model(settings, list(label_sets.values())))
        telemetry.serving(
            classifier.describe(),
            list(label_sets.values()),
            window_records=window_records(settings, classifier),
        )
        telemetry.watch_device(device_memory_of(classifier.describe().device))
        on_model(classifier.describe())
        settle_memory()
        shadow = running.enter_context(
            shadowing(
                settings,
                connection=connection,
                road_model=classifier.describe(),
                label_sets=label_sets,
                observer=telemetry.observer,
            )
        )
        watching = [shadow, tracer] if drift is None else [shadow, tracer, drift]
        observer = Observers(telemetry.observer, *watching, *observers)
        source = build_source(settings, connection)
        delivery = build_delivery(settings, connection=connection, source=source, topics=topics, observer=observer)
        reload = running.enter_context(
            reloading(
                settings,
                path=settings_path,
                label_sets=label_sets,
                take_up_topics=partial(take_up_topics, connection=connection, known=topics),
                warm_up=classifier.warm_up,
                failed=observer.reload_failed,
            )
        )
        pipeline = build_pipeline(
            settings,
            source=source,
            delivery=delivery,
            streams=streams,
            classifier=classifier,
            label_sets=label_sets,
            observer=observer,
            reload=reload,
            traces=traces,
        )
        pipeline.run(stop)


def _page_options(settings: Settings) -> PageOptions | None:
    """How the live page is shown, None for no page. Raises UsageError for a token that cannot be had."""
    page = settings.page
    return PageOptions(show_text=page.show_text, token=page.read_token()) if page.enabled else None


def _drift_json(drift: DriftObserver) -> bytes:
    """What was counted lately, as a baseline: what `/drift` answers."""
    return baseline_json(drift.counted())


@contextmanager
def _warm_model(settings: Settings, label_sets: Sequence[LabelSet]) -> Iterator[Classifier]:
    """The model, ready to label; closed when the context ends."""
    began_s = time.monotonic()
    model = build_classifier(settings.model, max_tokens=settings.batching.max_tokens)
    classifier = with_cache(model, settings.model)
    try:
        loaded_s = time.monotonic()
        classifier.warm_up(label_sets)
        structlog.get_logger().info(
            "model ready",
            **asdict(classifier.describe()),
            load_s=round(loaded_s - began_s, 3),
            warm_up_s=round(time.monotonic() - loaded_s, 3),
        )
        yield classifier
    finally:
        classifier.close()
