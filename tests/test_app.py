"""Topics of label sets that come while running: they must be there, and take what batches hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from streamer.app import Connection, build_classifier, device_memory_of, require_topics, take_up_topics, with_cache
from streamer.errors import UsageError
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Document
from streamer.settings import ModelSettings, Settings, build_settings

if TYPE_CHECKING:
    from tests.conftest import RoadBroker


def settings_with(name: str, *routes: str) -> Settings:
    label_set: dict[str, Any] = {
        "facets": {"mood": {"labels": ["bad", "good"]}},
        "routes": [{"when": {"facet": "mood", "label": "bad"}, "to": topic} for topic in routes],
    }
    stream = {"topic": f"{name}-in", "output": f"{name}-out", "dead_letter": f"{name}-dead", "label_set": "tickets"}
    return build_settings({"label_sets": {"tickets": label_set}, "streams": [stream]}, origin="test")


@pytest.mark.kafka
def test_topics_of_new_routes_become_known(kafka_road: RoadBroker, unique: str) -> None:
    for use in ("in", "out", "dead", "angry"):
        kafka_road.create_topic(f"{unique}-{use}", settings={"cleanup.policy": "compact"} if use == "angry" else None)
    kafka_road.create_topic(f"{unique}-small", settings={"max.message.bytes": "1000"})
    connection = Connection(kafka_road.bootstrap_servers, {}, embedded=False)
    known = require_topics(settings_with(unique), connection, known=())
    before = dict(known)

    with pytest.raises(UsageError, match=rf"lacks '{unique}-new' \(route of '{unique}-in'\); create what is missing"):
        take_up_topics(settings_with(unique, f"{unique}-angry", f"{unique}-new"), connection=connection, known=known)
    with pytest.raises(UsageError, match=rf"restart needed: topic '{unique}-small' takes messages of at most 1000 b"):
        take_up_topics(settings_with(unique, f"{unique}-angry", f"{unique}-small"), connection=connection, known=known)
    assert known == before

    take_up_topics(settings_with(unique, f"{unique}-angry"), connection=connection, known=known)
    assert known.keys() - before.keys() == {f"{unique}-angry"}
    assert known[f"{unique}-angry"].compacted


def test_an_embedded_broker_makes_its_topics_itself() -> None:
    connection = Connection("127.0.0.1:1", {}, embedded=True)
    take_up_topics(settings_with("t", "t-new"), connection=connection, known={})


def test_nobody_is_asked_about_known_topics() -> None:
    settings = settings_with("t")
    known = dict.fromkeys(("t-in", "t-out", "t-dead"), None)
    unreachable = Connection("127.0.0.1:1", {}, embedded=False)
    assert require_topics(settings, unreachable, known=known) == {}


@pytest.mark.parametrize(("cache_memory_mb", "hits"), [(1, 1), (0, None)])
def test_a_model_is_served_with_a_cache_unless_that_is_off(
    tiny_bundled: Path, cache_memory_mb: int, hits: int | None
) -> None:
    model = ModelSettings(name=str(tiny_bundled), device="cpu", cache_memory_mb=cache_memory_mb)
    assert last_hits(model) == hits


def test_the_fake_has_no_cache() -> None:
    assert last_hits(ModelSettings(name="fake", cache_memory_mb=64)) is None


def last_hits(model: ModelSettings) -> int | None:
    """How many of one text were known when it came for the second time; None without a cache."""
    classifier = with_cache(build_classifier(model, max_tokens="auto"), model)
    document = Document("again", LabelSet("mood", (Facet("mood", Kind.SINGLE, (Label("bad"), Label("good"))),)))
    for _ in range(2):
        window = classifier.submit([document]).wait(30.0)
    classifier.close()
    assert window is not None
    return None if window.facts.cache is None else window.facts.cache.hits


def test_a_processor_has_no_device_memory() -> None:
    assert device_memory_of("cpu")() == {}
