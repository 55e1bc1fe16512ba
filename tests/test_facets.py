"""Label sets: flattening, versions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.facets import (
    Calibration,
    Correction,
    Facet,
    InContextExample,
    Kind,
    Label,
    LabelSet,
    Route,
    flatten_labels,
)


def example_set(**changes: object) -> LabelSet:
    values: dict[str, object] = {
        "name": "tickets",
        "facets": (
            Facet("sentiment", Kind.SINGLE, (Label("negative"), Label("positive"))),
            Facet("topic", Kind.MULTI, (Label("billing", "a question about a bill"), Label("outage"))),
        ),
    }
    return LabelSet(**{**values, **changes})  # type: ignore[arg-type]


def test_version_is_held_still() -> None:
    """A released version never changes its meaning: events in topics were stamped with it."""
    assert example_set().version == "f64ddb2fc60dab4b"
    full = example_set(
        prompt="Classify:",
        examples=(InContextExample("it is down", ("outage",)),),
        routes=(Route("topic", "billing", 0.6, "tickets.billing"),),
        facets=(
            Facet(
                "topic", Kind.MULTI, (Label("billing"), Label("outage")), threshold=0.7, min_score=0.1, min_margin=0.2
            ),
        ),
    )
    assert full.version == "913c2848e55fbb57"
    assert example_set(all_matching=False).version == "f64ddb2fc60dab4b"
    assert example_set(all_matching=True).version == "e2aff3e0d6394e12"


TOPIC = Facet("topic", Kind.MULTI, (Label("billing"), Label("outage")))


@pytest.mark.parametrize(
    "changed",
    [
        Facet("topics", Kind.MULTI, TOPIC.labels),
        Facet("topic", Kind.SINGLE, TOPIC.labels),
        Facet("topic", Kind.MULTI, TOPIC.labels[::-1]),
        Facet("topic", Kind.MULTI, (Label("billing", "money"), Label("outage"))),
        Facet("topic", Kind.MULTI, TOPIC.labels, threshold=0.4),
        Facet("topic", Kind.MULTI, TOPIC.labels, min_score=0.4),
        Facet("topic", Kind.MULTI, TOPIC.labels, min_margin=0.4),
    ],
)
def test_version_changes_with_whatever_decides(changed: Facet) -> None:
    assert LabelSet("a", (changed,)).version != LabelSet("a", (TOPIC,)).version


def test_version_ignores_the_name_and_defaults() -> None:
    explicit = Facet("topic", Kind.MULTI, TOPIC.labels, threshold=0.5, min_score=0.0, min_margin=0.0)
    assert LabelSet("a", (TOPIC,)).version == LabelSet("b", (explicit,)).version


def test_a_calibration_is_part_of_the_version_and_not_of_the_scoring_key() -> None:
    plain = LabelSet("a", (TOPIC,))
    corrected = replace(TOPIC, correction=Correction((0.5, 2.0), (0.0, -1.0)))
    stamped = LabelSet("a", (corrected,), calibration=Calibration("0123456789abcdef", "r1"))
    others = [
        LabelSet("a", (corrected,)),
        LabelSet("a", (replace(TOPIC, correction=Correction((0.5, 2.0), (0.0, -1.1))),)),
        LabelSet("a", (TOPIC,), calibration=Calibration("0123456789abcdef", "r1")),
        LabelSet("a", (corrected,), calibration=Calibration("0123456789abcdee", "r1")),
        LabelSet("a", (corrected,), calibration=Calibration("0123456789abcdef", "r2")),
    ]
    assert len({one.version for one in (plain, stamped, *others)}) == 7
    assert {one.scoring_key for one in (stamped, *others)} == {plain.scoring_key}
    assert stamped.version == "acc31b6fc5b2ddc2"


def test_a_route_of_abstention_is_part_of_the_version() -> None:
    def version(*routes: Route) -> str:
        return LabelSet("a", (TOPIC,), routes=routes).version

    of_label, of_doubt = Route("topic", "outage", 0.0, "x"), Route("topic", None, 0.0, "x")
    assert len({version(), version(of_label), version(of_doubt)}) == 3


def test_scoring_key_ignores_thresholds_and_routes() -> None:
    strict = Facet("topic", Kind.MULTI, TOPIC.labels, threshold=0.9)
    routed = LabelSet("a", (strict,), routes=(Route("topic", "outage", 0.5, "x"),))
    assert routed.scoring_key == LabelSet("a", (TOPIC,)).scoring_key
    assert LabelSet("a", (TOPIC,), prompt="p").scoring_key != LabelSet("a", (TOPIC,)).scoring_key


def test_scoring_key_tells_which_label_an_example_goes_by() -> None:
    one, other = (
        (Facet("first", Kind.MULTI, first), Facet("second", Kind.MULTI, second))
        for first, second in (
            ((Label("a", "b: c"),), (Label("a: b", "c"),)),
            ((Label("a: b", "c"),), (Label("a", "b: c"),)),
        )
    )
    assert LabelSet("x", one).scoring_key == LabelSet("x", other).scoring_key  # the model reads the same
    shown = (InContextExample("t", ("a",)),)
    assert LabelSet("x", one, examples=shown).scoring_key != LabelSet("x", other, examples=shown).scoring_key


def test_flatten_labels() -> None:
    assert flatten_labels(["a", "b"]) == (Label("a"), Label("b"))
    tree = {"billing": "about a bill", "other": None, "hardware": ["laptop", "phone"], "net": {"wifi": {"slow": None}}}
    assert flatten_labels(tree) == (
        Label("billing", "about a bill"),
        Label("other"),
        Label("hardware.laptop"),
        Label("hardware.phone"),
        Label("net.wifi.slow"),
    )
    assert Label("a", "b").wording == "a: b"


@given(st.lists(st.text(), unique=True), st.lists(st.text(), unique=True))
def test_equal_versions_only_for_equal_labels(first: list[str], second: list[str]) -> None:
    one, two = (
        LabelSet("x", (Facet("f", Kind.MULTI, tuple(Label(name) for name in names)),)) for names in (first, second)
    )
    assert (one.version == two.version) == (first == second)
