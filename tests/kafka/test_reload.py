"""A `streamer run` whose label sets change under it, on Apache Kafka: each event by the labels it is stamped with."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import IO, TYPE_CHECKING, Any

import orjson
import pytest
import yaml

from streamer.decide import decide
from streamer.engine.fake import FakeClassifier
from streamer.facets import LabelSet
from streamer.records import Document, Outbound, Scores
from streamer.settings import load_settings

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

pytestmark = pytest.mark.kafka

WAIT_S = 60.0
OLD = {"tickets": {"facets": {"mood": {"labels": ["angry", "happy"]}}}}
NEW = {"tickets": {"facets": {"mood": {"labels": ["annoyed", "glad", "neutral"]}, "urgent": {"labels": ["no", "yes"]}}}}


def routed(topic: str) -> dict[str, Any]:
    route = {"when": {"facet": "mood", "label": "glad"}, "to": topic}
    return {"tickets": {**NEW["tickets"], "routes": [route]}}


@dataclass
class Mount:
    """A directory as Kubernetes mounts a ConfigMap: every file links to ..data/FILE, and ..data is swapped."""

    directory: Path
    versions: int = 0

    def publish(self, files: Mapping[str, Any]) -> None:
        self.versions += 1
        data = self.directory / f"..version{self.versions}"
        data.mkdir()
        for name, content in files.items():
            (data / name).write_text(content if isinstance(content, str) else yaml.safe_dump(content))
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(Path("..data") / name)
        (self.directory / "..tmp").symlink_to(data.name)
        os.replace(self.directory / "..tmp", self.directory / "..data")


@dataclass
class Run:
    """A `streamer run` process."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def series(self, name: str) -> dict[str, float]:
        """Label text -> value of every series of a metric."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        found = re.findall(rf"^streamer_{name}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def value(self, name: str) -> float:
        return sum(self.series(name).values())

    def wait_for(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if what():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        pytest.fail(f"not within {WAIT_S} s; log:\n{self.log.read_text()}")

    def serves(self, version: str) -> bool:
        return [version in labels for labels in self.series("label_set_info")] == [True]


@dataclass
class Feed:
    """Sends records until it is stopped, about 200 a second."""

    road: RoadBroker
    topic: str
    sent: int = 0

    def __post_init__(self) -> None:
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            numbers = range(self.sent, self.sent + 20)
            values = [orjson.dumps({"text": f"the parcel {number} is late"}) for number in numbers]
            keys = [f"k{number % 7}".encode() for number in numbers]
            self.road.produce(
                [Outbound(self.topic, key, value, (), None, False) for key, value in zip(keys, values, strict=True)]
            )
            self.sent += len(values)

    def stop(self) -> int:
        self._stop.set()
        self._thread.join(30)
        return self.sent


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Path], Run]]:
    running: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []

    def start_(settings: Path) -> Run:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
        log = (tmp_path / "log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "streamer", "run", "-c", str(settings)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "STREAMER_HTTP__PORT": str(port)},
        )
        running.append((process, log))
        return Run(process, tmp_path / "log", port)

    yield start_
    for process, log in running:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()


def settings_of(road: RoadBroker, name: str, delivery: str) -> dict[str, Any]:
    for use in ("in", "out", "dead"):
        road.create_topic(f"{name}-{use}")
    return {
        "kafka": {"bootstrap_servers": road.bootstrap_servers, "group_id": name, "transactional_id": name},
        "delivery": delivery,
        "model": {"name": "fake"},
        "batching": {"max_records": 16},
        "limits": {"commit_interval_ms": 50},
        "reload": {"interval_s": 0.2},
        "label_sets_file": "labels.yaml",
        "streams": [
            {"topic": f"{name}-in", "output": f"{name}-out", "dead_letter": f"{name}-dead", "label_set": "tickets"}
        ],
    }


def label_set_in(mount: Mount) -> LabelSet:
    return load_settings(mount.directory / "streamer.yaml").build_label_sets()["tickets"]


def moods(classifier: FakeClassifier, label_set: LabelSet, texts: list[str]) -> list[dict[str, list[str]]]:
    """What the engine and this label set make of texts: facet -> labels."""
    documents = [Document(text, label_set) for text in texts]
    window = classifier.submit(documents).wait(30)
    assert window is not None
    scores = [one for one in window.scores if isinstance(one, Scores)]
    return [{facet.name: list(facet.labels) for facet in verdict.facets} for verdict in decide(documents, scores)]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_label_sets_change_under_a_running_process(
    kafka_road: RoadBroker, unique: str, tmp_path: Path, start: Callable[[Path], Run], delivery: str
) -> None:
    settings = settings_of(kafka_road, unique, delivery)
    other = {**settings, "kafka": {**settings["kafka"], "group_id": "another"}}
    mount = Mount(tmp_path / "mount")
    mount.directory.mkdir()
    mount.publish({"streamer.yaml": settings, "labels.yaml": OLD})
    served = [label_set_in(mount)]
    run = start(mount.directory / "streamer.yaml")
    feed = Feed(kafka_road, f"{unique}-in")
    try:
        run.wait_for(lambda: run.value("records_published_total") > 100)
        began_s = run.value("started_timestamp_seconds")

        mount.publish({"streamer.yaml": settings, "labels.yaml": NEW})
        served.append(label_set_in(mount))
        run.wait_for(lambda: run.serves(served[-1].version))

        refused = [
            (settings, "tickets: {facets: {mood: {labels: ["),
            (other, OLD),
            (settings, routed(f"{unique}-glad")),  # this one waits for its topic
        ]
        for failures, (rest, labels) in enumerate(refused, 1):
            mount.publish({"streamer.yaml": rest, "labels.yaml": labels})
            run.wait_for(lambda failures=failures: run.value("reload_failures_total") == failures)  # type: ignore[misc]
            assert run.serves(served[-1].version)
        kafka_road.create_topic(f"{unique}-glad")
        served.append(label_set_in(mount))
        run.wait_for(lambda: run.serves(served[-1].version))
        published = run.value("records_published_total")
        run.wait_for(lambda: run.value("records_published_total") > published + 100)
    finally:
        sent = feed.stop()
    run.wait_for(lambda: run.value("records_published_total") == sent)
    assert run.value("reloads_total") == 2
    assert run.value("started_timestamp_seconds") == began_s
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(30) == 0

    log = run.log.read_text()
    assert log.count("reload failed") == 3
    for reason in ("labels.yaml:1:", "restart needed: kafka.group_id changed", f"'{unique}-glad' (route of"):
        assert log.count(reason) == 1, log
    check_events(kafka_road, unique, served, sent)


def check_events(road: RoadBroker, name: str, served: list[LabelSet], sent: int) -> None:
    """Every record once; versions in the order they were served; labels and route those of the stamped version."""
    texts = {
        f"{name}-in-{message.partition()}-{message.offset()}": orjson.loads(message.value() or b"")["text"]
        for message in road.read_all(f"{name}-in")
    }
    assert len(texts) == sent
    events = [
        (topic, orjson.loads(message.value() or b""))
        for topic in (f"{name}-out", f"{name}-glad")
        for message in road.read_all(topic)
    ]
    assert Counter(event["id"] for _, event in events) == Counter(list(texts))
    assert road.read_all(f"{name}-dead") == []

    versions = [label_set.version for label_set in served]
    by_partition: dict[int, list[tuple[int, int]]] = defaultdict(list)
    classifier = FakeClassifier(window_tokens=512, max_tokens=1 << 20, window_s=0.0, record_s=0.0)
    for place, label_set in enumerate(served):
        stamped = [(topic, event) for topic, event in events if event["label_set"]["version"] == versions[place]]
        assert len(stamped) > 10
        expected = moods(classifier, label_set, [texts[event["id"]] for _, event in stamped])
        for (topic, event), labels in zip(stamped, expected, strict=True):
            by_partition[event["source"]["partition"]].append((event["source"]["offset"], place))
            assert {facet: one["labels"] for facet, one in event["facets"].items()} == labels
            glad = bool(label_set.routes) and labels["mood"] == ["glad"]
            assert topic == (f"{name}-glad" if glad else f"{name}-out")
    classifier.close()
    for found in by_partition.values():
        in_order = [place for _, place in sorted(found)]
        assert in_order == sorted(in_order)
