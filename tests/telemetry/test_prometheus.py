from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamer.engine.base import CacheFacts, EngineFacts, ModelInfo
from streamer.facets import Facet, Kind, Label, LabelSet, Route
from streamer.records import Decided, Document, Envelope, Partition, Reject, Stream
from streamer.telemetry.prometheus import PrometheusObserver
from streamer.transport.base import Lag

MakeReject: TypeAlias = Callable[[str, int, str], Envelope[Reject]]
MakeLabelled: TypeAlias = Callable[..., tuple[list[Envelope[Document]], Decided]]
Series: TypeAlias = dict[tuple[str, frozenset[tuple[str, str]]], float]

MODEL = ModelInfo(name="small", revision="abc123", device="cpu", dtype="float32", window_tokens=512)


@pytest.fixture
def observer(streams: tuple[Stream, ...]) -> PrometheusObserver:
    return PrometheusObserver(
        streams=streams, wall_clock=lambda: 1_700_000_000.0, longest_pauses=dict, drift=None, shadow=False
    )


def scrape(observer: PrometheusObserver) -> Series:
    families = text_string_to_metric_families(observer.render().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(observer: PrometheusObserver, metric: str, /, **labels: str) -> float | None:
    return scrape(observer).get((f"streamer_{metric}", frozenset(labels.items())))


def test_counts_records_by_topic(observer: PrometheusObserver, make_reject: MakeReject) -> None:
    observer.consumed("tickets.raw", 500)
    observer.consumed("tickets.raw", 3)
    for offset in range(4):
        observer.rejected(make_reject("tickets.raw", offset, "bad_json"))
    observer.rejected(make_reject("posts.raw", 9, "null_value"))
    observer.dead_lettered("tickets.raw", 1)
    observer.published("tickets.raw", [None])
    observer.published("tickets.raw", [0.2])

    assert value(observer, "records_consumed_total", topic="tickets.raw") == 503
    assert value(observer, "records_consumed_total", topic="posts.raw") == 0
    assert value(observer, "records_rejected_total", topic="tickets.raw", code="bad_json") == 4
    assert value(observer, "records_rejected_total", topic="posts.raw", code="null_value") == 1
    assert value(observer, "records_dead_lettered_total", topic="tickets.raw") == 1
    assert value(observer, "records_published_total", topic="tickets.raw") == 2


def test_commits_are_timed_and_failures_counted(observer: PrometheusObserver) -> None:
    for name in ("commits_total", "commit_failures_total", "rewinds_total", "commit_seconds_count"):
        assert value(observer, name) == 0
    observer.committed(12, 0.02)
    observer.committed(1, 0.3)
    observer.commit_failed()
    observer.rewound("a reason that is no label")

    assert value(observer, "commits_total") == 2
    assert value(observer, "commit_seconds_sum") == pytest.approx(0.32)
    assert value(observer, "commit_seconds_bucket", le="0.025") == 1
    assert value(observer, "commit_failures_total") == 1
    assert value(observer, "rewinds_total") == 1
    assert "a reason" not in observer.render().decode()


def test_the_last_commit_is_as_old_as_the_start_at_most(streams: tuple[Stream, ...]) -> None:
    now_s = [1_700_000_000.0]
    observer = PrometheusObserver(
        streams=streams, wall_clock=lambda: now_s[0], longest_pauses=dict, drift=None, shadow=False
    )
    observer.started()
    assert value(observer, "last_commit_timestamp_seconds") == now_s[0]
    now_s[0] += 60
    observer.commit_failed()
    assert value(observer, "last_commit_timestamp_seconds") == now_s[0] - 60
    observer.committed(1, 0.02)
    assert value(observer, "last_commit_timestamp_seconds") == now_s[0]


def test_the_memory_of_the_device_is_asked_for_when_scraped(observer: PrometheusObserver) -> None:
    assert value(observer, "device_memory_bytes", state="used") is None
    held = {"used": 1, "total": 8}
    observer.watch_device(lambda: held)
    assert value(observer, "device_memory_bytes", state="used") == 1
    held["used"] = 3
    assert value(observer, "device_memory_bytes", state="used") == 3
    assert value(observer, "device_memory_bytes", state="total") == 8


def test_records_are_counted_by_the_topics_they_go_to(
    observer: PrometheusObserver, make_labelled: MakeLabelled, label_set: LabelSet
) -> None:
    routed = replace(label_set, routes=tuple(Route("topic", "billing", 0.5, to) for to in ("review", "billing")))
    observer.serving(MODEL, [routed])
    envelopes, decided = make_labelled("tickets.raw", [("billing",)] * 4)
    observer.labelled(envelopes, replace(decided, routes=[(), ("review", "billing"), ("billing",), ()]))
    found = {to: value(observer, "records_routed_total", topic="tickets.raw", to=to) for to in ("review", "billing")}
    assert found == {"review": 1, "billing": 2}
    assert value(observer, "records_routed_total", topic="tickets.raw", to="tickets.raw.labeled") == 2
    assert value(observer, "records_routed_total", topic="posts.raw", to="review") == 0
    for _ in range(2):
        observer.reloaded({"tickets": label_set})
    assert value(observer, "records_routed_total", topic="tickets.raw", to="review") is None
    assert value(observer, "records_routed_total", topic="tickets.raw", to="tickets.raw.labeled") == 2


def test_the_longest_pauses_are_asked_for_when_scraped(streams: tuple[Stream, ...]) -> None:
    pauses = {"poll": 0.051}
    observer = PrometheusObserver(
        streams=streams, wall_clock=time.time, longest_pauses=lambda: pauses, drift=None, shadow=False
    )
    assert value(observer, "loop_longest_pause_seconds", stage="poll") == 0.051
    pauses["commit"] = 31.0
    assert value(observer, "loop_longest_pause_seconds", stage="commit") == 31.0


def test_latency_is_a_histogram_by_topic(observer: PrometheusObserver) -> None:
    observer.published("posts.raw", [0.02])
    observer.published("posts.raw", [0.2, None, 45.0, -3.0])

    assert value(observer, "latency_seconds_count", topic="posts.raw") == 4
    assert value(observer, "latency_seconds_bucket", topic="posts.raw", le="0.025") == 2
    assert value(observer, "latency_seconds_bucket", topic="posts.raw", le="60.0") == 4
    assert value(observer, "latency_seconds_sum", topic="posts.raw") == pytest.approx(45.22)
    assert value(observer, "latency_seconds_count", topic="tickets.raw") == 0


def test_engine_facts(observer: PrometheusObserver) -> None:
    for _ in range(2):
        observer.submitted(40)
        facts = EngineFacts(
            40, 3, tokens=900, padded_tokens=1000, tokenise_s=0.5, forward_s=1.5, out_of_memory=2, capacity_tokens=4000
        )
        observer.scored(facts, engine_s=2.25)
    observer.stage("decode", 0.25, 41)

    assert value(observer, "window_documents_sum") == 80
    assert value(observer, "window_documents_bucket", le="64.0") == 2
    assert value(observer, "window_documents_bucket", le="32.0") == 0
    assert value(observer, "engine_seconds_sum") == 4.5
    assert value(observer, "batches_total") == 6
    assert value(observer, "tokens_total") == 1800
    assert value(observer, "padded_tokens_total") == 2000
    assert value(observer, "batch_capacity_tokens_total") == 8000
    assert value(observer, "engine_out_of_memory_total") == 4
    assert value(observer, "stage_seconds_total", stage="tokenise") == 1.0
    assert value(observer, "stage_seconds_total", stage="forward") == 3.0
    assert value(observer, "stage_records_total", stage="forward") == 80
    assert value(observer, "stage_seconds_total", stage="decode") == 0.25
    assert value(observer, "stage_records_total", stage="decode") == 41


def test_the_cache_is_counted_and_its_hits_are_no_work_of_the_engine(observer: PrometheusObserver) -> None:
    for name in ("cache_hits_total", "cache_misses_total", "cache_bytes"):
        assert value(observer, name) == 0
    for hits, held_bytes in ((30, 9000), (10, 12_000)):
        cache = CacheFacts(hits=hits, misses=40 - hits, held_bytes=held_bytes)
        observer.scored(EngineFacts(40, 1, 900, 900, 0.5, 1.5, cache), engine_s=2.0)

    assert value(observer, "cache_hits_total") == 40
    assert value(observer, "cache_misses_total") == 40
    assert value(observer, "cache_bytes") == 12_000
    assert value(observer, "stage_records_total", stage="forward") == 40
    assert value(observer, "stage_seconds_total", stage="forward") == 3.0


def test_labels_abstentions_and_truncations(observer: PrometheusObserver, make_labelled: MakeLabelled) -> None:
    observer.labelled(*make_labelled("tickets.raw", [("billing", "outage"), ("billing",)], truncated=[1]))
    observer.labelled(*make_labelled("posts.raw", [()]))
    observer.labelled(*make_labelled("tickets.raw", [("billing",)]))

    assert value(observer, "labels_total", topic="tickets.raw", facet="topic", label="billing") == 3
    assert value(observer, "labels_total", topic="tickets.raw", facet="topic", label="outage") == 1
    assert value(observer, "labels_total", topic="tickets.raw", facet="sentiment", label="positive") == 3
    assert value(observer, "abstentions_total", topic="posts.raw", facet="sentiment") == 1
    assert value(observer, "records_labelled_total", topic="tickets.raw") == 3
    assert value(observer, "records_truncated_total", topic="tickets.raw") == 1
    assert value(observer, "records_truncated_total", topic="posts.raw") == 0


def test_lag_shows_exactly_what_is_assigned(observer: PrometheusObserver) -> None:
    first, second, third = (Partition("tickets.raw", number) for number in range(3))
    observer.lag({first: Lag(10, 1.5), second: Lag(20, None), third: Lag(30, 3.0)})
    assert value(observer, "lag_records", topic="tickets.raw", partition="1") == 20
    assert value(observer, "lag_seconds", topic="tickets.raw", partition="1") is None
    assert value(observer, "lag_seconds", topic="tickets.raw", partition="2") == 3.0

    observer.revoked([first], lost=False)
    observer.revoked([third, Partition("tickets.raw", 77)], lost=True)
    assert value(observer, "lag_records", topic="tickets.raw", partition="0") is None
    assert value(observer, "lag_seconds", topic="tickets.raw", partition="0") is None
    assert value(observer, "lag_records", topic="tickets.raw", partition="2") is None
    assert value(observer, "lag_records", topic="tickets.raw", partition="1") == 20

    observer.lag({first: Lag(0, 0.0)})
    assert value(observer, "lag_records", topic="tickets.raw", partition="0") == 0
    assert value(observer, "lag_records", topic="tickets.raw", partition="1") is None


def test_a_lag_in_seconds_that_is_no_longer_known_is_dropped(observer: PrometheusObserver) -> None:
    partition = Partition("posts.raw", 5)
    observer.lag({partition: Lag(7, 2.0)})
    observer.lag({partition: Lag(8, None)})
    assert value(observer, "lag_records", topic="posts.raw", partition="5") == 8
    assert value(observer, "lag_seconds", topic="posts.raw", partition="5") is None


def test_rebalances_pauses_and_life(observer: PrometheusObserver) -> None:
    assert value(observer, "up") == 0
    observer.started()
    observer.assigned([Partition("tickets.raw", 0)])
    observer.assigned([])
    observer.revoked([Partition("tickets.raw", 0)], lost=False)
    observer.revoked([Partition("tickets.raw", 0)], lost=True)
    observer.paused({"posts.raw"})

    assert value(observer, "up") == 1
    assert value(observer, "started_timestamp_seconds") == 1_700_000_000.0
    assert value(observer, "rebalances_total", event="assigned") == 2
    assert value(observer, "rebalances_total", event="revoked") == 1
    assert value(observer, "rebalances_total", event="lost") == 1
    assert value(observer, "topic_paused", topic="posts.raw") == 1
    assert value(observer, "topic_paused", topic="tickets.raw") == 0

    observer.paused(())
    observer.stopped()
    assert value(observer, "topic_paused", topic="posts.raw") == 0
    assert value(observer, "up") == 0


def test_what_is_served_is_told_and_replaced(observer: PrometheusObserver, label_set: LabelSet) -> None:
    observer.serving(MODEL, [label_set])
    model = {"name": "small", "revision": "abc123", "device": "cpu", "dtype": "float32"}
    assert value(observer, "model_info", **model) == 1
    assert value(observer, "label_set_info", name="tickets", version=label_set.version) == 1
    assert value(observer, "labels_total", topic="posts.raw", facet="topic", label="outage") == 0
    assert value(observer, "abstentions_total", topic="posts.raw", facet="topic") == 0

    changed = LabelSet("tickets", (*label_set.facets, Facet("urgency", Kind.SINGLE, (Label("low"), Label("high")))))
    observer.serving(MODEL, [changed])
    assert value(observer, "label_set_info", name="tickets", version=label_set.version) is None
    assert value(observer, "label_set_info", name="tickets", version=changed.version) == 1


def test_reloads_move_the_version_and_are_counted(streams: tuple[Stream, ...], label_set: LabelSet) -> None:
    now_s = [1_700_000_000.0]
    observer = PrometheusObserver(
        streams=streams, wall_clock=lambda: now_s[0], longest_pauses=dict, drift=None, shadow=False
    )
    observer.serving(MODEL, [label_set])
    assert value(observer, "reloads_total") == value(observer, "reload_failures_total") == 0
    assert value(observer, "last_reload_success_timestamp_seconds") == now_s[0]

    now_s[0] += 60
    observer.reload_failed("labels.yaml: not YAML")
    assert value(observer, "reload_failures_total") == 1
    assert value(observer, "last_reload_successful") == 0
    assert value(observer, "last_reload_success_timestamp_seconds") == now_s[0] - 60
    assert value(observer, "label_set_info", name="tickets", version=label_set.version) == 1

    changed = LabelSet("tickets", label_set.facets[:1])
    observer.reloaded({"tickets": changed})
    assert value(observer, "reloads_total") == value(observer, "last_reload_successful") == 1
    assert value(observer, "last_reload_success_timestamp_seconds") == now_s[0]
    assert value(observer, "label_set_info", name="tickets", version=label_set.version) is None
    assert value(observer, "label_set_info", name="tickets", version=changed.version) == 1


def test_series_of_labels_end_one_reload_after_the_labels(
    observer: PrometheusObserver, make_labelled: MakeLabelled, label_set: LabelSet
) -> None:
    def outages() -> float | None:
        return value(observer, "labels_total", topic="tickets.raw", facet="topic", label="outage")

    observer.serving(MODEL, [label_set])
    first, second = (LabelSet("tickets", label_set.facets[:1], prompt=prompt) for prompt in ("one", "two"))
    observer.reloaded({"tickets": first})
    observer.labelled(*make_labelled("tickets.raw", [("outage",)]))  # read before the reload
    assert outages() == 1
    observer.reloaded({"tickets": second})
    assert outages() is None
    assert value(observer, "labels_total", topic="tickets.raw", facet="sentiment", label="positive") == 1
    observer.reloaded({"tickets": label_set})
    assert outages() == 0


def test_two_observers_share_nothing(streams: tuple[Stream, ...]) -> None:
    one, other = (
        PrometheusObserver(streams=streams, wall_clock=time.time, longest_pauses=dict, drift=None, shadow=False)
        for _ in range(2)
    )
    one.consumed("tickets.raw", 1)
    assert value(other, "records_consumed_total", topic="tickets.raw") == 0


def test_names_follow_the_conventions(observer: PrometheusObserver) -> None:
    text = observer.render().decode()
    families = list(text_string_to_metric_families(text))
    names = {family.name for family in families}
    assert {"process_cpu_seconds", "python_info", "python_gc_collections"} <= names
    assert all(name.startswith(("streamer_", "process_", "python_")) for name in names)
    assert all(family.documentation for family in families)
    assert "_created" not in text
    assert observer.content_type.startswith("text/plain")


def test_a_window_costs_microseconds_per_record(observer: PrometheusObserver, make_labelled: MakeLabelled) -> None:
    window = make_labelled("tickets.raw", [("billing",)] * 10_000, truncated=range(0, 10_000, 7))

    def feed_s() -> float:
        begun_s = time.perf_counter()
        observer.labelled(*window)
        return time.perf_counter() - begun_s

    assert min(feed_s() for _ in range(3)) < 0.5  # 50 ms per 1000; about 0.5 ms per 1000 when nothing is wrong
    assert value(observer, "labels_total", topic="tickets.raw", facet="topic", label="billing") == 30_000
