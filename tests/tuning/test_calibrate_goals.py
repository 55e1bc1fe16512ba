"""Goals in words, and the limits that reach them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from streamer.errors import UsageError
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.tuning.calibrate_fit import Matrix, Truth
from streamer.tuning.calibrate_goals import Goal, lowest, parse_goals, wilson_bound, with_accuracy, with_goal
from tests.tuning.miscalibrated import LABELS, bent

MOOD = Facet("mood", Kind.SINGLE, tuple(Label(f"label {i}") for i in range(LABELS)))
TOPIC = Facet("topic", Kind.MULTI, MOOD.labels)
BOTH = LabelSet("tickets", (MOOD, TOPIC))


def scores(kind: Kind, records: int, seed: int = 1) -> tuple[Matrix, Truth]:
    """Scores that mean what they say."""
    exact, right = bent(kind, records=records, slope=1.0, seed=seed)
    if kind is Kind.MULTI:
        return np.asarray((1.0 / (1.0 + np.exp(-exact))).round(4)), right
    shares = np.exp(exact)
    return np.asarray((shares / shares.sum(axis=1, keepdims=True)).round(4)), right


def test_goals_for_all_facets_and_for_one() -> None:
    goals = parse_goals(["max-f1", "mood: precision >= 0.9"], BOTH)
    assert {name: goal.text for name, goal in goals.items()} == {"mood": "precision>=0.9", "topic": "max-f1"}
    assert parse_goals(["topic:cost=FP:1,FN:4"], BOTH) == {"topic": Goal("cost", 0.2, "cost=FP:1,FN:4")}
    assert parse_goals([], BOTH) == {}


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["best"], "--goal 'best': no goal; give max-f1, precision>=0.9 or cost=FP:1,FN:5"),
        (["topic:best"], "no goal"),
        (["topics:max-f1"], r"has no facet 'topics' \(did you mean 'topic'\?\)"),
        (["precision>=1"], "between 0 and 1"),
        (["precision>=0"], "between 0 and 1"),
        (["cost=FP:0,FN:0"], "one of the costs must be above 0"),
        (["cost=FP:1"], "no goal"),
        (["max-f1", "precision>=0.9"], "facet 'mood' has the goal 'max-f1' already"),
        (["mood:max-f1", "mood:precision>=0.9"], "facet 'mood' has the goal 'max-f1' already"),
    ],
)
def test_wrong_goals_are_one_line(texts: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse_goals(texts, BOTH)
    assert "\n" not in str(caught.value)


def goal(text: str) -> Goal:
    return parse_goals([text], BOTH)["topic"]


@pytest.mark.parametrize("facet", [MOOD, TOPIC])
def test_a_precision_is_reached_on_other_records_too(facet: Facet) -> None:
    reached = []
    for seed in range(20):
        for share in (0.7, 0.8):
            limited = with_goal(facet, goal(f"precision>={share}"), *scores(facet.kind, 1000, seed))
            kept, right = scores(facet.kind, 5000, seed + 100)
            if facet.kind is Kind.MULTI:
                assert limited.min_score == 0.0
                hit = right[kept >= limited.threshold]
            else:
                assert limited.threshold == 0.5
                hit = right[np.arange(len(kept)), kept.argmax(axis=1)][kept.max(axis=1) >= limited.min_score]
            reached.append(hit.mean() >= share)
            assert hit.mean() > share - 0.05
            assert len(hit) > 100
    assert np.mean(reached) >= 0.85


def test_a_precision_out_of_reach_is_one_line() -> None:
    values, _ = scores(Kind.MULTI, 100)
    wrong = np.zeros(values.shape, dtype=np.bool_)
    with pytest.raises(
        UsageError, match=r"^facet 'topic': no threshold reaches precision 0.9 for certain \(best: 0.00"
    ):
        with_goal(TOPIC, goal("precision>=0.9"), values, wrong)
    few, right = scores(Kind.SINGLE, 15)
    with pytest.raises(UsageError, match=r"^facet 'mood': no min_score reaches accuracy 0.6"):
        with_goal(MOOD, goal("precision>=0.6"), few, right)


def test_the_best_f1_is_no_worse_than_any_other_threshold() -> None:
    values, right = scores(Kind.MULTI, 200)
    limited = with_goal(TOPIC, goal("max-f1"), values, right)
    best = f1_score(right, values >= limited.threshold, average="micro")
    for threshold in np.arange(0.0, 1.0, 0.01):
        assert f1_score(right, values >= threshold, average="micro") <= best + 1e-12
    assert limited.threshold < 0.5  # half of the best F1, where scores mean what they say (Lipton et al. 2014)


def test_a_single_facet_gives_its_best_label_for_the_best_f1() -> None:
    assert with_goal(MOOD, goal("max-f1"), *scores(Kind.SINGLE, 100)) == MOOD


def test_costs_become_the_score_from_which_giving_is_cheaper() -> None:
    values, right = scores(Kind.MULTI, 4000)
    limited = with_goal(TOPIC, goal("cost=FP:1,FN:5"), values, right)
    assert limited.threshold == 0.1667

    def cost(threshold: float) -> float:
        given = values >= threshold
        return float((given & ~right).sum() + 5 * (~given & right).sum())

    assert cost(limited.threshold) < 1.01 * min(cost(threshold) for threshold in np.arange(0.01, 1.0, 0.01))
    assert with_goal(MOOD, goal("cost=FP:1,FN:5"), values, right).min_score == 0.1667


def test_abstention_for_a_wanted_accuracy() -> None:
    values, right = scores(Kind.SINGLE, 400)
    limited = with_accuracy(MOOD, 0.8, values, right)
    assert 0 < limited.min_score < 1
    kept, truth = scores(Kind.SINGLE, 5000, 2)
    sure = kept.max(axis=1) >= limited.min_score
    assert truth[np.arange(len(kept)), kept.argmax(axis=1)][sure].mean() > 0.78
    assert with_accuracy(MOOD, 0.01, values, right).min_score == 0.0
    values, right = scores(Kind.MULTI, 2000)
    limited = with_accuracy(TOPIC, 0.4, values, right)
    assert limited.min_margin > 0
    assert limited.min_score == 0.0


@given(
    arrays(np.float64, st.integers(20, 60), elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])),
    st.randoms(use_true_random=False),
    st.floats(0.05, 0.8),
)
def test_no_lower_limit_would_do(values: Matrix, random: np.random.Generator, share: float) -> None:
    hit = np.array([random.random() < value for value in values], dtype=np.bool_)
    try:
        limit = lowest(values, hit, share, "x")
    except UsageError:
        return
    kept = hit[values >= limit]
    assert len(kept) >= 20
    assert wilson_bound(np.array([kept.sum()]), np.array([float(len(kept))]))[0] >= share
    for lower in np.unique(values[values < limit]):
        rest = hit[values >= lower]
        assert wilson_bound(np.array([rest.sum()]), np.array([float(len(rest))]))[0] < share


def test_a_bound_is_below_what_was_seen_and_comes_near_with_more() -> None:
    few, many = wilson_bound(np.array([9.0, 9000.0]), np.array([10.0, 10_000.0]))
    assert few < 0.8 < 0.89 < many < 0.9
