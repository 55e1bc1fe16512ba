"""Rules that can never do anything, and scores that decide nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.check.findings import Finding, Level
from streamer.check.routes import check_routes
from streamer.decide import routes_of
from streamer.facets import Facet, Kind, Label, LabelSet, Route
from streamer.records import FacetVerdict

LABELS = (Label("billing"), Label("outage"))


def found(*routes: Route, kind: Kind = Kind.MULTI, min_score: float = 0.0, all_matching: bool = False) -> list[Finding]:
    facet = Facet("topic", kind, LABELS, min_score=min_score)
    return list(check_routes(LabelSet("tickets", (facet,), routes=routes, all_matching=all_matching)))


def test_routes_that_may_each_win_are_fine() -> None:
    routes = (
        Route("topic", "billing", 0.9, "urgent"),
        Route("topic", "billing", 0.6, "money"),
        Route("topic", "outage", 0.0, "ops"),
    )
    assert found(*routes) == []
    assert found(*routes, all_matching=True) == []
    assert found() == []


@pytest.mark.parametrize("score", [0.6, 0.9])
def test_a_route_behind_a_wider_one_can_never_win(score: float) -> None:
    (finding,) = found(Route("topic", "billing", 0.6, "money"), Route("topic", "billing", score, "urgent"))
    assert finding.level is Level.WARNING
    assert finding.where == "label_sets.tickets.routes.1"
    assert "can never win, for routes.0 takes every such record first" in finding.what
    assert f"'billing' of facet 'topic' from score {score:g} on, to 'urgent'" in finding.what
    assert "put it before routes.0" in finding.advice


def test_with_all_matching_only_the_same_topic_again_is_idle() -> None:
    wide, narrow = Route("topic", "billing", 0.6, "money"), Route("topic", "billing", 0.9, "money")
    assert found(wide, Route("topic", "billing", 0.9, "urgent"), all_matching=True) == []
    for routes, where in (((wide, narrow), 1), ((narrow, wide), 0), ((wide, wide), 1)):
        (finding,) = found(*routes, all_matching=True)
        assert finding.where == f"label_sets.tickets.routes.{where}"
        assert "sends every such record there already" in finding.what


def test_all_matching_without_routes_is_told() -> None:
    (finding,) = found(all_matching=True)
    assert finding.where == "label_sets.tickets.all_matching"


@pytest.mark.parametrize(("kind", "says"), [(Kind.SINGLE, "decides nothing"), (Kind.MULTI, "only beside a label")])
def test_a_score_under_min_score_is_told(kind: Kind, says: str) -> None:
    (finding,) = found(Route("topic", "billing", 0.4, "money"), kind=kind, min_score=0.5)
    assert finding.level is Level.WARNING
    assert says in finding.what
    assert finding.advice
    for score in (0.0, 0.5, 0.7):
        assert found(Route("topic", "billing", score, "money"), kind=kind, min_score=0.5) == []


def test_a_route_of_abstention_needs_a_facet_that_abstains() -> None:
    review = Route("topic", None, 0.0, "review")
    (finding,) = found(review)
    assert finding.level is Level.WARNING
    assert finding.where == "label_sets.tickets.routes.0"
    assert "facet 'topic' never abstains" in finding.what
    assert "min_score or min_margin" in finding.advice
    assert found(review, min_score=0.5) == []
    (behind,) = found(review, Route("topic", None, 0.0, "other"), min_score=0.5)
    assert "abstention of facet 'topic', to 'other': it can never win" in behind.what
    assert behind.advice == "remove it"


def test_a_score_under_the_threshold_is_fine() -> None:
    assert found(Route("topic", "billing", 0.2, "money")) == []


@given(
    st.lists(
        st.builds(
            lambda label, score, to: Route("topic", label, score, to),
            st.sampled_from(["billing", "outage"]),
            st.sampled_from([0.0, 0.3, 0.6]),
            st.sampled_from(["a", "b"]),
        ),
        max_size=5,
    ),
    st.tuples(*[st.sampled_from([0.0, 0.3, 0.5, 0.6, 1.0])] * 2),
    st.booleans(),
)
def test_a_route_found_idle_can_be_removed(
    routes: list[Route], scores: tuple[float, float], all_matching: bool
) -> None:
    facet = Facet("topic", Kind.MULTI, LABELS)
    label_set = LabelSet("l", (facet,), routes=tuple(routes), all_matching=all_matching)
    given_ = FacetVerdict("topic", ("billing", "outage"), dict(zip(("billing", "outage"), scores, strict=True)), False)
    idle = {finding.where.rpartition(".")[2] for finding in check_routes(label_set) if ".routes." in finding.where}
    kept = tuple(route for index, route in enumerate(routes) if str(index) not in idle)
    without = LabelSet("l", (facet,), routes=kept, all_matching=all_matching)
    assert set(routes_of(without, [given_])) == set(routes_of(label_set, [given_]))
