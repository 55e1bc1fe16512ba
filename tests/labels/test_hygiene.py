"""Labels that a model takes for one another: by vectors, and by scores of texts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.facets import Facet, Kind, Label
from streamer.labels.hygiene import NEAR, close_pairs, indistinct_labels, joint_pairs, near_wordings

NAMES = ("movie", "film", "sport", "sports")


def facet(kind: Kind = Kind.SINGLE, threshold: float = 0.5) -> Facet:
    return Facet("facet", kind, tuple(Label(name) for name in NAMES), threshold)


def at_angle(likeness: float) -> list[float]:
    return [likeness, float(np.sqrt(1 - likeness**2)), 0.0]


def test_labels_with_nearly_one_vector_are_told_unless_their_names_tell_it() -> None:
    vectors = np.array([at_angle(1), at_angle(NEAR + 0.01), [0, 0, 1], [0, 0, 1]], dtype=np.float32)
    (remark,) = near_wordings(facet(), vectors)
    assert remark.what == "'movie', 'film' mean nearly the same to the model (likeness 0.89 of 1)"
    assert "descriptions" in remark.advice
    apart = np.array([at_angle(1), at_angle(NEAR - 0.01), [0, 0, 1], [0, 0, -1]], dtype=np.float32)
    assert list(near_wordings(facet(), apart)) == []


def test_only_the_worst_pairs_are_told_by_name() -> None:
    labels = tuple(Label(chr(ord("a") + n) * 5) for n in range(6))
    remarks = list(near_wordings(Facet("facet", Kind.SINGLE, labels), np.ones((6, 1), dtype=np.float32)))
    assert len(remarks) == 8 + 1
    assert remarks[-1].what == "7 more such pairs of labels"


def shares(texts: int) -> NDArray[np.float64]:
    """`film` and `movie` close to each other on the first half, `sport` clear on the second."""
    first = np.tile([0.40, 0.38, 0.12, 0.10], (texts // 2, 1))
    first[::2] = first[::2, [1, 0, 2, 3]]  # either of the two wins
    return np.vstack([first, np.tile([0.1, 0.05, 0.8, 0.05], (texts // 2, 1))])


def test_a_pair_of_a_single_facet_that_wins_by_chance_is_told_with_counts_and_an_example() -> None:
    texts = [f"about\nfilms {n}" for n in range(20)] + ["goal"] * 20
    (remark,) = indistinct_labels(facet(), shares(40), texts)
    assert remark.what == (
        "'movie', 'film': of 20 texts that are given one of them, 20 have nearly the same score for both, "
        "as 'about films 0'"
    )


def test_few_texts_prove_nothing() -> None:
    assert close_pairs(shares(18)) == []
    assert [pair.texts for pair in close_pairs(shares(20))] == [10]


def test_a_pair_that_is_clear_on_most_texts_is_left_alone() -> None:
    scores = shares(40)
    scores[:12] = [0.7, 0.1, 0.1, 0.1]
    assert close_pairs(scores) == []
    scores[:12:2] = [0.40, 0.38, 0.12, 0.10]
    (pair,) = close_pairs(scores)
    assert (pair.first, pair.second, pair.texts, pair.alike) == (0, 1, 20, 14)


@pytest.mark.parametrize(("apart", "told"), [(0, True), (2, True), (3, False)])
def test_a_pair_of_a_multi_facet_that_always_holds_together_is_told(apart: int, told: bool) -> None:
    scores = np.zeros((30, 4))
    scores[:20, [0, 1]] = 0.9
    scores[:apart, 1] = 0.1
    scores[20:, 2] = 0.9
    assert bool(joint_pairs(scores, 0.5)) is told
    remarks = list(indistinct_labels(facet(Kind.MULTI), scores, ["text"] * 30))
    assert bool(remarks) is told
    if told:
        assert f"of 20 texts that are given one of them, {20 - apart} are given both" in remarks[0].what


def test_somebody_elses_text_is_shown_without_its_control_characters() -> None:
    (remark,) = indistinct_labels(facet(), shares(40), ["\x1b[31m" + "x" * 200] * 40)
    assert "\x1b" not in remark.what
    assert len(remark.what) < 250
