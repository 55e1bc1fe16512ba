"""The whole road in this process, with its page: the fake engine between topics in plain memory."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import orjson

from streamer.app import build_classifier, build_pipeline, window_records
from streamer.delivery import AtLeastOnce
from streamer.page.live import PageOptions
from streamer.settings import build_settings
from streamer.telemetry.bundle import Telemetry
from streamer.transport.memory import MemorySink, MemorySource
from streamer.transport.memory_broker import MemoryBroker

PATIENCE_S = 60.0
HOSTILE_LABEL = "<b onclick=alert(1)>bold</b>"
CONTENT: dict[str, Any] = {
    "model": {"name": "fake"},
    "http": {"port": 0},
    "label_sets": {
        "tickets": {
            "facets": {
                "sentiment": {"labels": ["negative", "neutral", "positive"], "min_margin": 0.05},
                "topic": {"kind": "multi", "labels": ["billing", "delivery", HOSTILE_LABEL]},
            },
            "routes": [{"when": {"facet": "topic", "label": "billing", "score": 0.5}, "to": "tickets.billing"}],
        },
        "posts": {"facets": {"event": {"labels": [f"event {i}" for i in range(30)]}}},
    },
    "streams": [
        {"topic": "tickets", "output": "tickets.out", "dead_letter": "tickets.dead", "label_set": "tickets"},
        {"topic": "posts", "output": "posts.out", "dead_letter": "posts.dead", "label_set": "posts"},
    ],
}


@dataclass
class LiveRoad:
    """A running loop, where its page is, and what ends both early."""

    address: str
    broker: MemoryBroker
    end: Callable[[], object]
    sent: int = 0

    def send(self, texts: Sequence[str | None], topic: str = "tickets") -> None:
        """Records of these texts, None for one that is not JSON."""
        for text in texts:
            value = b"<xml/>" if text is None else orjson.dumps({"text": text})
            self.broker.produce(topic, value, key=None)
        self.sent += len(texts)

    def settle(self) -> None:
        """Wait until every record sent has ended, and the loop has told of its lag after that."""
        ended = ("streamer_records_published_total", "streamer_records_dead_lettered_total")
        wait_for(lambda: sum(self.metric(name) for name in ended) >= self.sent)
        wait_for(lambda: self.metric("streamer_lag_records") == 0)

    def metrics(self) -> Mapping[str, float]:
        """Value by series, named as in a scrape."""
        with urlopen(f"{self.address}metrics", timeout=10) as answer:  # noqa: S310 - our own
            lines = answer.read().decode().splitlines()
        return {series: float(value) for series, value in (x.rsplit(" ", 1) for x in lines if not x.startswith("#"))}

    def metric(self, name: str) -> float:
        """Sum over all series of a metric."""
        return sum(value for series, value in self.metrics().items() if re.match(rf"{name}(\{{|$)", series))


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "not within a minute"
        time.sleep(0.05)


@contextmanager
def live_road(page: PageOptions) -> Iterator[LiveRoad]:
    """A loop that runs as long as the context."""
    settings = build_settings(CONTENT, origin="test")
    streams, label_sets = settings.build_streams(), settings.build_label_sets()
    broker = MemoryBroker(partitions=3, max_message_bytes=1_000_000, now_ms=lambda: time.time_ns() // 1_000_000)
    for stream in streams:
        broker.create_topic(stream.topic)
    classifier = build_classifier(settings.model, max_tokens="auto")
    classifier.warm_up(list(label_sets.values()))
    telemetry = Telemetry(
        streams=streams,
        address=("127.0.0.1", 0),
        stuck_after_s=30.0,
        engine_stuck_after_s=120.0,
        drift=None,
        drift_json=None,
        shadow=False,
        page=page,
    )
    source = MemorySource(
        broker=broker, group_id="g", topics=[one.topic for one in streams], auto_offset_reset="earliest"
    )
    delivery = AtLeastOnce(
        source=source,
        sink=MemorySink(broker=broker),
        observer=telemetry.observer,
        commit_interval_s=0.05,
        clock=time.monotonic,
        sleep=time.sleep,
    )
    pipeline = build_pipeline(
        settings,
        source=source,
        delivery=delivery,
        streams=streams,
        classifier=classifier,
        label_sets=label_sets,
        observer=telemetry.observer,
    )
    stop = threading.Event()
    with ExitStack() as running:
        running.callback(classifier.close)
        running.enter_context(telemetry)
        telemetry.serving(
            classifier.describe(), list(label_sets.values()), window_records=window_records(settings, classifier)
        )
        loop = threading.Thread(target=pipeline.run, args=(stop,))
        loop.start()
        running.callback(loop.join)
        running.callback(stop.set)
        yield LiveRoad(str(telemetry.page_address), broker, running.close)
