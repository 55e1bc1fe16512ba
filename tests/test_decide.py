"""Scores to labels: softmax or sigmoid, thresholds, abstention, routes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.decide import decide, facet_scores, holds
from streamer.facets import Correction, Facet, Kind, Label, LabelSet, Route
from streamer.records import Document, FacetVerdict, Scores, Verdict

MOOD = Facet("mood", Kind.SINGLE, (Label("bad"), Label("good")))
TOPIC = Facet("topic", Kind.MULTI, (Label("billing"), Label("outage"), Label("login")))


def scores(*logits: float, truncated: bool = False) -> Scores:
    return Scores(np.array(logits, dtype=np.float32), 3, truncated)


def one(label_set: LabelSet, *logits: float) -> Verdict:
    return decide([Document("x", label_set)], [scores(*logits)])[0]


def test_single_takes_the_best_and_multi_all_above_the_threshold() -> None:
    verdict = one(LabelSet("l", (MOOD, TOPIC)), 0.0, 2.0, 1.0, -1.0, 0.0)
    mood, topic = verdict.facets
    assert mood.labels == ("good",)
    assert mood.scores == pytest.approx({"bad": 0.1192, "good": 0.8808}, abs=1e-4)
    assert topic.labels == ("billing", "login")  # a score equal to the threshold holds
    assert topic.scores == pytest.approx({"billing": 0.7311, "outage": 0.2689, "login": 0.5}, abs=1e-4)
    assert not mood.abstained
    assert not topic.abstained
    assert verdict.routes == ()


@pytest.mark.parametrize(
    ("facet", "logits", "abstained"),
    [
        (Facet("f", Kind.SINGLE, MOOD.labels, min_score=0.9), (0.0, 2.0), True),
        (Facet("f", Kind.SINGLE, MOOD.labels, min_score=0.8), (0.0, 2.0), False),
        (Facet("f", Kind.SINGLE, MOOD.labels, min_margin=0.8), (0.0, 2.0), True),
        (Facet("f", Kind.SINGLE, MOOD.labels, min_margin=0.7), (0.0, 2.0), False),
        (Facet("f", Kind.MULTI, MOOD.labels, min_margin=0.1), (0.1, 3.0), True),
        (Facet("f", Kind.MULTI, MOOD.labels, min_margin=0.1), (-1.0, 3.0), False),
        (Facet("f", Kind.MULTI, MOOD.labels, min_score=0.9), (0.0, 2.0), True),
    ],
)
def test_abstention(facet: Facet, logits: tuple[float, ...], abstained: bool) -> None:
    given_ = one(LabelSet("l", (facet,)), *logits).facets[0]
    assert given_.abstained is abstained
    assert (given_.labels == ()) is abstained
    assert set(given_.scores) == {"bad", "good"}


def test_the_first_route_that_holds_wins() -> None:
    routes = (
        Route("topic", "outage", 0.9, "urgent"),
        Route("topic", "outage", 0.0, "ops"),
        Route("mood", "bad", 0, "x"),
    )
    label_set = LabelSet("l", (MOOD, TOPIC), routes=routes)
    assert one(label_set, 5, 0, 0, 5, 0).routes == ("urgent",)
    assert one(label_set, 5, 0, 0, 1, 0).routes == ("ops",)
    assert one(label_set, 5, 0, 0, -1, 0).routes == ("x",)
    assert one(label_set, 0, 5, 0, -1, 0).routes == ()


def test_with_all_matching_every_route_that_holds_counts_and_each_topic_once() -> None:
    routes = (
        Route("topic", "outage", 0.9, "urgent"),
        Route("topic", "outage", 0.0, "ops"),
        Route("topic", "login", 0.0, "ops"),
        Route("mood", "bad", 0.9, "x"),
    )
    label_set = LabelSet("l", (MOOD, TOPIC), routes=routes, all_matching=True)
    assert one(label_set, 5, 0, 0, 5, 5).routes == ("urgent", "ops", "x")
    assert one(label_set, 1, 0, 0, 1, -1).routes == ("ops",)
    assert one(label_set, 0, 5, 0, -1, -1).routes == ()


@pytest.mark.parametrize("kind", [Kind.SINGLE, Kind.MULTI])
@pytest.mark.parametrize("all_matching", [False, True])
def test_an_abstained_facet_matches_no_route(kind: Kind, all_matching: bool) -> None:
    facet = Facet("f", kind, MOOD.labels, min_score=0.99)
    label_set = LabelSet("l", (facet,), routes=(Route("f", "good", 0.0, "x"),), all_matching=all_matching)
    verdict = one(label_set, 0, 3)
    assert verdict.facets[0].abstained
    assert verdict.facets[0].scores["good"] > 0.9
    assert verdict.routes == ()


@pytest.mark.parametrize("limit", ["min_score", "min_margin"])
def test_abstention_is_routed_beside_labels(limit: str) -> None:
    mood = replace(MOOD, min_score=0.7) if limit == "min_score" else replace(MOOD, min_margin=0.7)
    routes = (Route("mood", "good", 0.0, "good"), Route("mood", None, 0.0, "review"))
    label_set = LabelSet("l", (mood,), routes=routes)
    assert one(label_set, 0.0, 0.1).routes == ("review",)
    assert one(label_set, 0.0, 5.0).routes == ("good",)
    assert one(label_set, 5.0, 0.0).routes == ()


def test_with_all_matching_a_record_in_doubt_goes_to_review_and_where_its_labels_send_it() -> None:
    mood = replace(MOOD, min_score=0.9)
    routes = (Route("topic", "billing", 0.0, "money"), Route("mood", None, 0.0, "review"))
    label_set = LabelSet("l", (mood, TOPIC), routes=routes, all_matching=True)
    assert one(label_set, 0.0, 0.1, 4.0, -4.0, -4.0).routes == ("money", "review")


def test_a_label_that_was_not_given_matches_no_route_however_low_its_score_may_be() -> None:
    low = Route("topic", "billing", 0.1, "x")
    strict = Facet("topic", Kind.MULTI, TOPIC.labels, threshold=0.8)
    assert one(LabelSet("l", (strict,), routes=(low,)), 1.0, 3.0, -1.0).routes == ()  # sigmoid(1) is .73
    assert one(LabelSet("l", (strict,), routes=(low,)), 2.0, 3.0, -1.0).routes == ("x",)
    runner_up = Route("mood", "bad", 0.1, "x")
    assert one(LabelSet("l", (MOOD,), routes=(runner_up,)), 0.0, 1.0).routes == ()  # softmax gives it .27


@given(
    st.lists(st.floats(-8, 8, width=32), min_size=5, max_size=5),
    st.lists(
        st.builds(
            lambda at, score, to: Route(at[0], at[1], score, to),
            st.sampled_from([("mood", "bad"), ("mood", "good"), ("topic", "billing"), ("topic", "outage")]),
            st.floats(0, 1),
            st.sampled_from(["a", "b", "c"]),
        ),
        max_size=6,
    ),
)
def test_routes_are_those_that_hold_in_their_order(logits: list[float], routes: list[Route]) -> None:
    every = one(LabelSet("l", (MOOD, TOPIC), routes=tuple(routes), all_matching=True), *logits)
    first = one(LabelSet("l", (MOOD, TOPIC), routes=tuple(routes)), *logits)
    by_name = {facet.name: facet for facet in every.facets}
    held = [route.to for route in routes if holds(route, by_name[route.facet])]
    assert every.routes == tuple(dict.fromkeys(held))
    assert first.routes == every.routes[:1]


def test_label_sets_mix_in_a_window_and_order_holds() -> None:
    sets = [LabelSet("a", (MOOD,)), LabelSet("b", (TOPIC,))]
    documents = [Document(str(i), sets[i % 2]) for i in range(7)]
    answers = [scores(*([-i, i] if i % 2 == 0 else [i, -i, -i]), truncated=i == 3) for i in range(7)]
    verdicts = decide(documents, answers)
    assert [verdict.label_set.name for verdict in verdicts] == list("abababa")
    assert [verdict.truncated for verdict in verdicts] == [i == 3 for i in range(7)]
    assert verdicts[4].facets[0].labels == ("good",)
    assert decide([], []) == []


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=6))
def test_scores_are_probabilities(logits: list[float]) -> None:
    rows = np.array([logits], dtype=np.float32)
    single = facet_scores(Facet("f", Kind.SINGLE, ()), rows)
    multi = facet_scores(Facet("f", Kind.MULTI, ()), rows)
    assert single.sum() == pytest.approx(1.0, abs=6e-4)
    assert ((multi >= 0) & (multi <= 1)).all()
    assert all(score == round(score, 4) for score in [*single[0], *multi[0]])


def plainly(document: Document, answer: Scores) -> Verdict:
    """The slow twin of `decide`: one record, one facet, one label at a time."""
    facets, first = [], 0
    for facet in document.label_set.facets:
        logits = answer.logits[first : first + len(facet.labels)].astype(np.float64)
        first += len(facet.labels)
        if facet.kind is Kind.MULTI:
            exact = [1 / (1 + np.exp(-logit)) for logit in logits]
        else:
            exact = [np.exp(logit - logits.max()) for logit in logits]
            exact = [one / sum(exact) for one in exact]
        found = {label.name: round(float(one), 4) for label, one in zip(facet.labels, exact, strict=True)}
        ranked = sorted(found.values(), reverse=True)
        if facet.kind is Kind.MULTI:
            labels = tuple(name for name, score in found.items() if score >= facet.threshold)
            margin = min(abs(score - facet.threshold) for score in ranked)
        else:
            labels = (facet.labels[int(np.argmax(logits))].name,)
            margin = ranked[0] - (ranked[1] if len(ranked) > 1 else 0.0)
        abstained = ranked[0] < facet.min_score or round(margin, 4) < facet.min_margin
        facets.append(FacetVerdict(facet.name, () if abstained else labels, found, abstained))
    return Verdict(tuple(facets), (), document.label_set, answer.truncated)


def test_a_window_is_decided_as_each_record_alone() -> None:
    chance = np.random.default_rng(11)
    label_sets = []
    for number in range(12):
        facets = [
            Facet(
                f"f{at}",
                Kind.MULTI if chance.random() < 0.5 else Kind.SINGLE,
                tuple(Label(f"l{i}") for i in range(chance.integers(1, 14))),
                threshold=float(chance.choice([0.3, 0.5, 0.7])),
                min_score=float(chance.choice([0.0, 0.4])),
                min_margin=float(chance.choice([0.0, 0.1])),
            )
            for at in range(chance.integers(1, 4))
        ]
        label_sets.append(LabelSet(f"s{number}", tuple(facets)))
    documents = [Document("x", label_sets[chance.integers(12)]) for _ in range(3000)]
    answers = [scores(*chance.uniform(-6, 6, len(one.label_set.labels)).tolist()) for one in documents]
    assert decide(documents, answers) == [plainly(*pair) for pair in zip(documents, answers, strict=True)]


def test_scores_are_those_of_corrected_logits() -> None:
    mood = replace(MOOD, correction=Correction((0.5, 0.5), (0.0, -1.0)))
    topic = replace(TOPIC, correction=Correction((2.0, 1.0, 0.5), (0.0, 1.5, 0.0)))
    first, second = one(LabelSet("l", (mood, topic)), 0.0, 2.0, 1.0, -1.0, -4.0).facets
    assert first.scores == {"bad": 0.5, "good": 0.5}  # 0 and 0.5 * 2 - 1
    assert second.scores == {"billing": 0.8808, "outage": 0.6225, "login": 0.1192}
    assert second.labels == ("billing", "outage")


def test_a_bias_may_change_the_best_label_and_a_temperature_may_not() -> None:
    warm = replace(MOOD, correction=Correction((0.1, 0.1), (0.0, 0.0)))
    biased = replace(MOOD, correction=Correction((1.0, 1.0), (3.0, 0.0)))
    assert one(LabelSet("l", (warm,)), 0.0, 2.0).facets[0].labels == ("good",)
    assert one(LabelSet("l", (biased,)), 0.0, 2.0).facets[0].labels == ("bad",)


def test_limits_and_routes_go_by_corrected_scores() -> None:
    warm = replace(MOOD, correction=Correction((0.25, 0.25), (0.0, 0.0)), min_score=0.7)
    routes = (Route("mood", "good", 0.75, "sure"),)
    assert not one(LabelSet("l", (replace(warm, correction=None),)), 0.0, 2.0).facets[0].abstained
    assert one(LabelSet("l", (warm,)), 0.0, 2.0).facets[0].abstained
    assert one(LabelSet("l", (warm,), routes=routes), 0.0, 4.0).routes == ()  # sigmoid(1) is .73
    assert one(LabelSet("l", (warm,), routes=routes), 0.0, 8.0).routes == ("sure",)


def test_a_correction_that_changes_nothing_changes_nothing() -> None:
    same = replace(TOPIC, correction=Correction((1.0,) * 3, (0.0,) * 3))
    logits = (0.3, -0.2, 5.0)
    assert one(LabelSet("l", (same,)), *logits).facets == one(LabelSet("l", (TOPIC,)), *logits).facets
