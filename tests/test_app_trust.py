"""Drift and shadow of the settings, in a process that serves: on the embedded broker with the bundled model."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema
import orjson
import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from streamer.app import connect
from streamer.app_trust import build_drift
from streamer.drift.baseline import parse_baseline
from streamer.errors import UsageError
from streamer.observe import Observer
from streamer.serving import serve
from streamer.settings import Settings, build_settings
from tests.test_road import free_port

SCHEMA = Path(__file__).parents[1] / "schemas" / "shadow-event.schema.json"
TEXTS = [
    f"the parcel {i} is late and it was not here" if i % 2 else f"thank you, invoice {i} is paid" for i in range(24)
]
WAIT_S = 90.0

Done: TypeAlias = Callable[["Ended"], bool]


class Ended(Observer):
    """Counts what was published."""

    def __init__(self) -> None:
        self.published_records = 0

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self.published_records += len(latencies_s)


def settings_with(port: int, **changed: Any) -> Settings:
    facets = {
        "mood": {"labels": ["angry", "happy"]},
        "topic": {"kind": "multi", "labels": {"delivery": "a parcel", "billing": "an invoice"}},
    }
    content: dict[str, Any] = {
        "kafka": {"bootstrap_servers": "embedded", "group_id": "trust", "group_protocol": "consumer"},
        "model": {"name": "bundled", "device": "cpu"},
        "http": {"port": port},
        "label_sets": {"tickets": {"facets": facets}, "next": {"facets": {"mood": facets["mood"]}}},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "tickets"}],
        **changed,
    }
    return build_settings(content, origin="test")


def page(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        content: bytes = answer.read()
        return content


def total(port: int, metric: str, **labels: str) -> float:
    """Sum over the series of a metric that have these labels."""
    families = text_string_to_metric_families(page(port, "/metrics").decode())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"streamer_{metric}" and labels.items() <= sample.labels.items()
    )


def serving(settings: Settings, *, ready: Done, done: Done) -> Ended:
    """Serve the settings; TEXTS are sent when `ready` holds, and it ends when `done` does."""
    stop, ended = threading.Event(), Ended()
    failed: list[Exception] = []

    def run() -> None:
        try:
            serve(settings, connection=connection, stop=stop, observers=[ended], settings_path=None)
        except Exception as error:
            failed.append(error)

    def wait_for(what: Done) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not failed and time.monotonic() < deadline_s and not _holds(what, ended):
            time.sleep(0.1)

    with connect(settings) as connection:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            wait_for(ready)
            producer = Producer({"bootstrap.servers": connection.bootstrap_servers})
            for text in TEXTS:
                producer.produce("in", orjson.dumps({"text": text}), key=b"k")
            assert producer.flush(30) == 0
            producer.close()
            wait_for(done)
        finally:
            stop.set()
            thread.join(WAIT_S)
    assert not failed, failed
    assert not thread.is_alive()
    return ended


def _holds(done: Done, ended: Ended) -> bool:
    try:
        return bool(done(ended))
    except OSError:  # it does not listen yet
        return False


def test_the_same_model_and_labels_as_a_shadow_agree_always() -> None:
    """The bundled model, twice: a record that waits for the shadow is scored once the road has nothing to do."""
    port = free_port()
    settings = settings_with(
        port, shadow={"max_busy": 1.0, "streams": {"in": {"label_set": "tickets", "share": 1.0, "topic": "side"}}}
    )

    def seen(metric: str) -> float:
        return total(port, metric)

    def done(ended: Ended) -> bool:
        counts.extend([{name: seen(f"shadow_{name}_total") for name in ("records", "compared", "agreed", "dropped")}])
        return ended.published_records == len(TEXTS) and counts[-1]["records"] == len(TEXTS)

    counts: list[dict[str, float]] = []
    assert serving(settings, ready=lambda _: seen("shadow_running") == 1, done=done).published_records == len(TEXTS)
    both = 2 * len(TEXTS)  # facets
    assert counts[-1] == {"records": len(TEXTS), "compared": both, "agreed": both, "dropped": 0}


def test_what_is_counted_of_a_stream_is_shown_and_is_a_baseline() -> None:
    port = free_port()
    settings = settings_with(port, model={"name": "fake"}, drift={"sample_every": 1})
    told: dict[str, Any] = {}

    def done(ended: Ended) -> bool:
        told["baseline"] = page(port, "/drift")
        told["en"] = total(port, "drift_share_ratio", topic="in", aspect="language", value="en")
        told["moods"] = total(port, "drift_share_ratio", topic="in", aspect="labels", facet="mood")
        counted = parse_baseline(told["baseline"], origin="/drift")
        return ended.published_records == len(TEXTS) and "in" in counted and counted["in"].records > 23

    serving(settings, ready=lambda _: total(port, "up") == 1, done=done)
    (counts,) = parse_baseline(told["baseline"], origin="/drift").values()
    assert counts.records == pytest.approx(len(TEXTS), rel=0.01)
    assert sum(counts.counts["labels", "mood"].values()) == pytest.approx(len(TEXTS), rel=0.01)
    assert told["en"] > 0.4
    assert told["moods"] == pytest.approx(1.0)


def test_a_baseline_that_is_none_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        build_drift(settings_with(0, drift={"baseline": str(tmp_path / "none.json")}))
    assert build_drift(settings_with(0)) is None


def test_the_schema_of_shadow_events_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(orjson.loads(SCHEMA.read_bytes()))
