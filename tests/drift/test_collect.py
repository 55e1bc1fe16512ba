"""A baseline from records that are labelled for it: the bundled model, and a stretch of a topic on Apache Kafka."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import orjson
import pytest

from streamer.app import Connection, build_classifier
from streamer.drift.collect import count_values, topic_values
from streamer.drift.report import StreamCounts, distance_of, shares_of
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Outbound, Stream
from streamer.settings import build_model_settings

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

TOPICS = ("billing", "delivery", "an outage", "login", "a greeting", "food", "sports", "weather")
LABEL_SET = LabelSet("tickets", (Facet("topic", Kind.SINGLE, tuple(Label(name) for name in TOPICS)),))


def stream(topic: str) -> Stream:
    return Stream(
        topic=topic, output="out", dead_letter="dead", label_set="tickets", text=("/body", "/text"), parse_json=True,
        pass_payload=False, pass_headers=frozenset(), all_scores=True, keep_timestamp=True, max_value_bytes=10_000,
        weight=1,
    )  # fmt: skip


def test_with_the_bundled_model_tickets_are_nearer_to_tickets_than_to_posts() -> None:
    classifier = build_classifier(build_model_settings({"name": "bundled", "device": "cpu"}), max_tokens="auto")
    demo = files("streamer") / "demo"
    tickets = (demo / "tickets.jsonl").read_bytes().splitlines()
    posts = (demo / "posts.jsonl").read_bytes().splitlines()

    def counted(values: list[bytes]) -> StreamCounts:
        found = count_values(values, stream=stream("in"), label_set=LABEL_SET, classifier=classifier)
        assert found.rejects == 0
        assert found.counts.records == len(values)
        return found.counts

    try:
        baseline, same, other = counted(tickets[:60]), counted(tickets[60:120]), counted(posts[:60])
    finally:
        classifier.close()

    def distance(now: StreamCounts, aspect: str, facet: str) -> float:
        return distance_of(shares_of(now.counts[aspect, facet]), shares_of(baseline.counts[aspect, facet]))

    assert distance(other, "labels", "topic") > distance(same, "labels", "topic") + 0.1
    assert distance(other, "length", "") > distance(same, "length", "") + 0.1
    assert shares_of(baseline.counts["language", ""])["en"] > 0.8


@pytest.mark.kafka
def test_a_stretch_of_a_topic_is_read(kafka_road: RoadBroker, unique: str) -> None:
    kafka_road.create_topic(unique)
    values = [orjson.dumps({"text": f"ticket {i}"}) for i in range(30)]
    kafka_road.produce([Outbound(unique, None, value, (), None, dead_letter=False) for value in values])
    kafka_road.produce([Outbound(unique, b"k", None, (), None, dead_letter=False)])
    connection = Connection(kafka_road.bootstrap_servers, {"log_level": 0}, embedded=False)
    read = list(topic_values(connection, unique, since="beginning", until="end", now_ms=0))
    assert sorted(value for value in read if value is not None) == sorted(values)
    assert read.count(None) == 1
    assert list(topic_values(connection, unique, since="end", until="end", now_ms=0)) == []
