"""When two engines count as deciding the same."""

from __future__ import annotations

import pytest

from streamer.bench.agreement import Agreement, agreement
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import FacetVerdict, Verdict

LABELS = LabelSet(
    "both",
    (
        Facet("mood", Kind.SINGLE, (Label("good"), Label("bad"), Label("mixed"))),
        Facet("topic", Kind.MULTI, (Label("bill"), Label("outage"))),
    ),
)
MOOD = {"good": 0.5, "bad": 0.3, "mixed": 0.2}
TOPIC = {"bill": 0.9, "outage": 0.1}


def compare(
    mood: str, topics: tuple[str, ...], reference: dict[str, dict[str, float]], ours: dict[str, float] | None = None
) -> Agreement:
    facets = (
        FacetVerdict("mood", (mood,), ours or reference["mood"], abstained=False),
        FacetVerdict("topic", topics, reference["topic"], abstained=False),
    )
    return agreement([Verdict(facets, (), LABELS, truncated=False)], [reference], LABELS)


def test_equal_decisions() -> None:
    assert compare("good", ("bill",), {"mood": MOOD, "topic": TOPIC}) == Agreement(1.0, 1.0, 0.0)


def test_another_label_by_a_clear_margin_is_no_rounding() -> None:
    found = compare("bad", ("bill",), {"mood": MOOD, "topic": TOPIC})
    assert (found.same, found.within_noise) == (0.5, 0.5)


def test_another_label_by_a_hair_is_rounding() -> None:
    close = {"good": 0.41, "bad": 0.40, "mixed": 0.19}
    found = compare("bad", ("bill",), {"mood": close, "topic": TOPIC})
    assert (found.same, found.within_noise) == (0.5, 1.0)


@pytest.mark.parametrize("topics", [("bill",), ("bill", "outage")])
def test_a_label_at_its_threshold_may_fall_on_either_side(topics: tuple[str, ...]) -> None:
    assert compare("good", topics, {"mood": MOOD, "topic": {"bill": 0.9, "outage": 0.49}}).within_noise == 1.0


def test_a_label_far_from_its_threshold_may_not() -> None:
    assert compare("good", ("bill", "outage"), {"mood": MOOD, "topic": TOPIC}).within_noise == 0.5


def test_the_largest_difference_of_a_score_is_told() -> None:
    ours = {"good": 0.45, "bad": 0.31, "mixed": 0.24}
    assert compare("good", ("bill",), {"mood": MOOD, "topic": TOPIC}, ours).most_apart == pytest.approx(0.05)
