"""The comparison of two sides, against one made by hand and one made by brute force."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.replay.compare import MOST_FACETS, TOP, Comparison, Side
from streamer.replay.report import FacetChange, Move, Report, RouteMove

ROOT = Path(__file__).parents[1]
RANGES = {0: range(100), 1: range(50, 60)}


def event(
    offset: int,
    facets: dict[str, list[str] | None],
    *,
    partition: int = 0,
    topic: str = "raw",
    at_ms: int = 1,
    route: str | None = None,
    version: str = "v1",
    written_ms: int | None = 5000,
) -> bytes:
    """`facets`: labels by name, None where it abstained."""
    return orjson.dumps(
        {
            "schema_version": 1,
            "id": f"{topic}-{partition}-{offset}",
            "source": {"topic": topic, "partition": partition, "offset": offset, "timestamp_ms": written_ms},
            "facets": {
                name: {"labels": labels or [], "scores": {}, "abstained": labels is None}
                for name, labels in facets.items()
            },
            "route": route,
            "label_set": {"name": "tickets", "version": version},
            "model": {"name": "fake", "revision": "r1"},
            "calibration": None,
            "truncated": False,
            "classified_at_ms": at_ms,
        }
    )


def compared(old: list[bytes | None], new: list[bytes | None]) -> Report:
    with Comparison(topic="raw", ranges=RANGES) as comparison:
        comparison.add("new", new)
        comparison.add("old", old)
        return comparison.report()


def test_what_became_of_each_facet() -> None:
    old: list[bytes | None] = [
        event(1, {"mood": ["good"], "topic": ["bill", "outage"], "gone": ["x"]}),
        event(2, {"mood": ["good"], "topic": []}),
        event(3, {"mood": ["good"], "topic": None}),
        event(4, {"mood": None, "topic": None}),
        event(5, {"mood": ["bad"]}),
    ]
    new: list[bytes | None] = [
        event(1, {"mood": ["bad"], "topic": ["outage", "bill"], "fresh": ["y"]}, version="v2"),
        event(2, {"mood": ["bad"], "topic": ["bill"]}, version="v2"),
        event(3, {"mood": None, "topic": ["bill"]}, version="v2"),
        event(4, {"mood": ["good"], "topic": None}, version="v2"),
        event(6, {"mood": ["bad"]}, version="v2"),
    ]
    report = compared(old, new)
    assert (report.compared, report.only_old, report.only_new, report.rerouted) == (4, 1, 1, 0)
    assert report.facets == (
        FacetChange("fresh", 0, 0, 0, 0, 0, 0, 1, ()),
        FacetChange("gone", 0, 0, 0, 0, 0, 1, 0, ()),
        FacetChange(
            "mood", 4, 0, 2, 1, 1, 0, 0,
            (Move(("good",), ("bad",), 2), Move(None, ("good",), 1), Move(("good",), None, 1)),
        ),
        FacetChange("topic", 4, 2, 1, 0, 1, 0, 0, (Move(None, ("bill",), 1), Move((), ("bill",), 1))),
    )  # fmt: skip
    assert (report.old.versions, report.new.versions) == ({"v1": 5}, {"v2": 5})
    assert report.new.models == {"fake@r1": 5}


def test_the_last_classification_counts_with_all_its_routes() -> None:
    old: list[bytes | None] = [
        event(1, {"mood": ["good"]}, at_ms=10, route="b"),
        event(1, {"mood": ["good"]}, at_ms=10, route="a"),
        event(1, {"mood": ["bad"]}, at_ms=9, route="c"),
        event(2, {"mood": ["bad"]}, at_ms=9, route="c", version="v0"),
        event(2, {"mood": ["good"]}, at_ms=10, version="v1"),
        event(3, {"mood": ["good"]}),
        event(3, {"mood": ["good"]}),
    ]
    new: list[bytes | None] = [
        event(1, {"mood": ["good"]}, route="a"),
        event(2, {"mood": ["good"]}),
        event(3, {"mood": ["good"]}),
    ]
    report = compared(old, new)
    assert report.facets[0].unchanged == report.facets[0].compared == 3
    assert report.routes == (RouteMove(("a", "b"), ("a",), 1),)
    assert report.rerouted == 1
    assert report.old.versions == {"v1": 3}
    assert report.old.repeated == 4


def test_events_outside_of_the_ranges_are_passed_over() -> None:
    outside: list[bytes | None] = [
        event(100, {}),
        event(49, {}, partition=1),
        event(1, {}, partition=2),
        event(1, {}, topic="raw-0"),
        event(1, {}, topic="other"),
    ]
    report = compared(outside, [event(59, {}, partition=1)])
    assert (report.old.records, report.old.foreign, report.only_new) == (0, 0, 1)


GOOD: dict[str, Any] = orjson.loads(event(1, {"mood": ["good"]}))


WRONG: list[dict[str, Any]] = [
    {"id": 5},
    {"id": "raw"},
    {"id": "raw-x-1"},
    {"id": "raw-0-" + "9" * 5000},
    {"facets": []},
    {"facets": {"mood": None}},
    {"facets": {"mood": {"labels": "good", "abstained": False}}},
    {"facets": {"mood": {"labels": [1], "abstained": False}}},
    {"facets": {"a\0b": {"labels": [], "abstained": False}}},
    {"facets": {str(i): {"labels": [], "abstained": False} for i in range(MOST_FACETS + 1)}},
    {"route": 3},
    {"classified_at_ms": "now"},
    {"classified_at_ms": 2**63},
    {"classified_at_ms": True},
    {"label_set": "tickets"},
    {"source": {"timestamp_ms": "x"}},
]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\x00",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        *(orjson.dumps({k: v for k, v in GOOD.items() if k != key}) for key in ("id", "facets", "route", "model")),
        *(orjson.dumps({**GOOD, **change}) for change in WRONG),
    ],
)
def test_a_foreign_message_is_counted(value: bytes | None) -> None:
    report = compared([value, event(2, {"mood": ["good"]})], [])
    assert (report.old.foreign, report.old.records) == (1, 1)


def test_odd_names_are_data() -> None:
    odd = "a'\"; DROP TABLE old; --\n\u202e"
    report = compared([event(1, {odd: [odd]}, route=odd, version=odd)], [event(1, {odd: ["x"]})])
    assert report.facets[0].name == odd
    assert report.facets[0].moves == (Move((odd,), ("x",), 1),)
    assert report.routes == (RouteMove((odd,), (), 1),)
    assert report.old.versions == {odd: 1}


def test_when_the_first_record_was_written_is_known_when_all_say_so() -> None:
    with Comparison(topic="raw", ranges=RANGES) as comparison:
        assert comparison.earliest_ms is None
        comparison.add("new", [event(1, {}, written_ms=70), event(2, {}, written_ms=60), event(900, {}, written_ms=1)])
        assert comparison.earliest_ms == 60
        comparison.add("new", [event(3, {}, written_ms=None)])
        assert comparison.earliest_ms is None


ANSWERS = st.none() | st.lists(st.sampled_from("abcdef"), max_size=2, unique=True)
SIDES = st.lists(
    st.tuples(
        st.integers(0, 12), st.dictionaries(st.sampled_from(["mood", "topic"]), ANSWERS), st.sampled_from([None, "r"])
    ),
    max_size=40,
)


@given(old=SIDES, new=SIDES)
def test_figures_equal_those_counted_one_by_one(
    old: list[tuple[int, dict[str, list[str] | None], str | None]],
    new: list[tuple[int, dict[str, list[str] | None], str | None]],
) -> None:
    sides: dict[Side, dict[int, tuple[dict[str, list[str] | None], str | None]]] = {"old": {}, "new": {}}
    with Comparison(topic="raw", ranges=RANGES) as comparison:
        for side, rows in (("old", old), ("new", new)):
            for at_ms, (offset, facets, route) in enumerate(rows):
                comparison.add(side, [event(offset, facets, route=route, at_ms=at_ms)])  # type: ignore[arg-type]
                sides[side][offset] = (facets, route)  # type: ignore[index]
        report = comparison.report()
    both = sides["old"].keys() & sides["new"].keys()
    assert report.compared == len(both)
    assert report.only_old == len(sides["old"].keys() - both)
    assert report.only_new == len(sides["new"].keys() - both)
    assert report.rerouted == sum(sides["old"][i][1] != sides["new"][i][1] for i in both)
    for facet in report.facets:
        pairs = Counter(
            (labels(sides["old"][i][0][facet.name]), labels(sides["new"][i][0][facet.name]))
            for i in both
            if facet.name in sides["old"][i][0] and facet.name in sides["new"][i][0]
        )
        assert facet.compared == pairs.total()
        moved = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
        assert facet.unchanged == facet.compared - sum(moved.values())
        assert facet.changed + facet.newly_abstained + facet.no_longer_abstained == sum(moved.values())
        assert facet.newly_abstained == sum(count for (_, after), count in moved.items() if after is None)
        assert len(facet.moves) == min(TOP, len(moved))
        assert {(move.before, move.after): move.records for move in facet.moves}.items() <= moved.items()
        assert [move.records for move in facet.moves] == sorted(moved.values(), reverse=True)[:TOP]
        assert facet.only_old + facet.compared == sum(facet.name in sides["old"][i][0] for i in both)
        assert facet.only_new + facet.compared == sum(facet.name in sides["new"][i][0] for i in both)


def test_a_full_disk_is_told_in_one_line() -> None:
    code = """
import resource
from streamer.errors import FatalError
from streamer.replay.compare import Comparison
from tests.replay.test_compare import event
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
with Comparison(topic="raw", ranges={0: range(1000)}) as comparison:
    try:
        for offset in range(1000):
            comparison.add("new", [event(offset, {"mood": ["x" * 200_000]})])
    except FatalError as error:
        print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "needs room for temporary files" in ran.stdout
    assert "TMPDIR" in ran.stdout


def labels(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(sorted(given))
