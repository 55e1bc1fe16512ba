"""What a replay may do, and whether it was begun before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from streamer.errors import UsageError
from streamer.records import Partition
from streamer.replay.plan import Plan, plan_replay, take_up
from streamer.settings import Settings, build_settings
from streamer.transport.kafka_range import Range
from streamer.transport.replay_group import Progress, ReplayGroup

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

CONTENT: dict[str, Any] = {
    "label_sets": {
        "tickets": {
            "facets": {"topic": {"labels": ["billing", "outage"]}},
            "routes": [{"when": {"facet": "topic", "label": "billing"}, "to": "tickets.billing"}],
        }
    },
    "streams": [
        {"topic": "tickets.raw", "output": "tickets.labeled", "dead_letter": "tickets.dead", "label_set": "tickets"}
    ],
}


def settings(**more: Any) -> Settings:
    return build_settings({**CONTENT, **more}, origin="test")


def plan(using: Settings | None = None, **changed: Any) -> Plan:
    wish: dict[str, Any] = {
        "topic": "tickets.raw",
        "to": "side",
        "dead_letter": None,
        "since": "2h",
        "until": "end",
        "group": None,
        "compare_with": [],
    }
    return plan_replay(using or settings(), **{**wish, **changed})


def test_all_events_go_to_the_side_topic_and_the_version_stays() -> None:
    made = plan()
    assert (made.stream.topic, made.stream.output, made.dead_letter) == ("tickets.raw", "side", None)
    assert made.label_set.version == settings().build_label_sets()["tickets"].version
    assert made.compare_with == ("tickets.labeled", "tickets.billing")
    assert made.group_id == f"streamer.replay.tickets.raw.{made.identity}"
    assert plan(dead_letter="side.dead").stream.dead_letter == "side.dead"
    assert plan(compare_with=["elsewhere"]).compare_with == ("elsewhere",)


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"topic": "tickets.rav"}, r"--topic 'tickets.rav' is no input topic .*did you mean 'tickets.raw'"),
        ({"to": "tickets.raw"}, r"--to 'tickets.raw' is in use \(input\)"),
        ({"to": "tickets.labeled"}, r"--to 'tickets.labeled' is in use \(output of 'tickets.raw'\)"),
        ({"to": "tickets.billing"}, r"--to 'tickets.billing' is in use \(route of"),
        ({"to": "tickets.dead"}, r"--to 'tickets.dead' is in use \(dead letters of"),
        ({"dead_letter": "tickets.dead"}, r"--dead-letter 'tickets.dead' is in use"),
        ({"dead_letter": "side"}, "--to and --dead-letter are both 'side'"),
        ({"compare_with": ["side"]}, "--compare-with 'side' is the target itself"),
        ({"group": "streamer"}, "--group 'streamer' is the group of the settings"),
    ],
)
def test_what_would_harm_production_is_refused(wish: Mapping[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        plan(**wish)


def test_an_embedded_broker_has_no_history() -> None:
    with pytest.raises(UsageError, match="embedded"):
        plan(settings(kafka={"bootstrap_servers": "embedded"}))


def test_a_replay_is_known_by_what_decides_its_events() -> None:
    other_labels = {"tickets": {"facets": {"topic": {"labels": ["billing", "delivery"]}}}}
    alike = [plan(), plan(dead_letter="side.dead"), plan(group="mine"), plan(compare_with=["other"])]
    assert len({one.identity for one in alike}) == 1
    different = [
        plan(),
        plan(to="side2"),
        plan(since="3h"),
        plan(until="1h"),
        plan(settings(label_sets=other_labels)),
        plan(settings(model={"name": "fake"})),
    ]
    assert len({one.identity for one in different}) == len(different)


def test_ranges_are_taken_up_where_they_were_left(broker: RoadBroker, unique: str) -> None:
    broker.create_topic(unique)
    ours = ReplayGroup(
        bootstrap_servers=broker.bootstrap_servers,
        properties=broker.properties("classic"),
        group_id=unique,
        identity="ab",
    )
    one, two = Partition(unique, 0), Partition(unique, 1)
    empty = [Range(one, 5, 5), Range(two, 0, 0)]
    assert take_up(ours, empty) == []

    found = [Range(one, 5, 10), Range(two, 0, 4)]
    begun = [Progress(found[0], 5), Progress(found[1], 0)]
    assert take_up(ours, found) == begun
    moved = [Range(one, 6, 12), Range(two, 0, 6)]
    begun = [Progress(moved[0], 6), Progress(moved[1], 0)]
    assert take_up(ours, moved) == begun, "nothing was read yet, so it may begin anew"

    ours.commit_now({one: 8})
    later = [Range(one, 9, 20), Range(two, 5, 9)]
    assert take_up(ours, later) == [Progress(moved[0], 8), Progress(moved[1], 0)], "what was begun is finished first"

    ours.commit_now({one: 12, two: 6})
    done = [Progress(moved[0], 12), Progress(moved[1], 6)]
    for within in (moved, [Range(one, 7, 11), Range(two, 3, 3)], empty):
        assert take_up(ours, within) == done
    assert take_up(ours, later) == [Progress(later[0], 9), Progress(later[1], 5)], "the range has grown"
    ours.close()
