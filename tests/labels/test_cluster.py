"""Texts that belong together fall together."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from streamer.errors import UsageError
from streamer.labels.cluster import Clustering, cluster_texts, counts_to_try

THEMES = (("invoice", "charged"), ("parcel", "courier"), ("password", "login"))
SIZES = (60, 40, 20)


def themes(noise: float = 0.1) -> tuple[list[str], NDArray[np.float32], list[int]]:
    """Texts of three themes of falling size, shuffled, with vectors around three directions."""
    random = np.random.default_rng(5)
    kinds = random.permutation(np.repeat(np.arange(3), SIZES))
    vectors = np.eye(8)[kinds] + noise * random.standard_normal((len(kinds), 8))
    texts = [f"the {THEMES[kind][n % 2]} and the {THEMES[kind][0]} {n}" for n, kind in enumerate(kinds)]
    return texts, vectors.astype(np.float32), kinds.tolist()


def cluster(texts: list[str], vectors: NDArray[np.float32], count: int | None = None, most: int = 60) -> Clustering:
    return cluster_texts(texts, vectors, count=count, most=most, seed=1, advance=lambda _: None)


def test_groups_that_lie_apart_are_found_with_their_number_and_stand_by_size() -> None:
    texts, vectors, kinds = themes()
    found = cluster(texts, vectors)
    assert found.of_text.tolist() == kinds
    assert found.silhouette > 0.5
    assert found.nearness.shape == (120,)
    assert found.nearness.max() <= 1.0001


def test_texts_without_clear_groups_are_not_just_parted_in_two() -> None:
    random = np.random.default_rng(3)
    vectors = random.standard_normal((200, 8)).astype(np.float32)
    vectors[:, 0] *= 2.0  # parts best in two, but hardly
    found = cluster(["12 34"] * 200, vectors)
    assert found.silhouette < 0.25
    assert found.of_text.max() >= 3


def test_words_tell_apart_what_the_model_does_not() -> None:
    texts, vectors, kinds = themes()
    vectors[np.array(kinds) == 2] = vectors[np.array(kinds) == 1].mean(axis=0)
    assert adjusted_rand_score(kinds, cluster(texts, vectors, count=3).of_text) > 0.75


def test_texts_without_words_are_grouped_by_the_model_alone() -> None:
    _, vectors, kinds = themes()
    assert cluster(["12 34"] * 120, vectors, count=3).of_text.tolist() == kinds


def test_the_number_may_be_given_and_is_bounded() -> None:
    texts, vectors, _ = themes()
    assert cluster(texts, vectors, count=7).of_text.max() == 6
    assert cluster(texts, vectors, most=2).of_text.max() == 1
    assert counts_to_try(120, 60) == [2, 3, 4, 5, 6, 8, 10, 12]
    assert counts_to_try(100_000, 60)[-1] == 60
    assert counts_to_try(10, 60) == [2]


def test_the_same_texts_always_fall_the_same_way() -> None:
    texts, vectors, _ = themes(noise=0.8)
    assert cluster(texts, vectors).of_text.tolist() == cluster(texts, vectors).of_text.tolist()


def test_equal_texts_make_fewer_groups_than_asked_for() -> None:
    found = cluster(["again"] * 30, np.ones((30, 4), dtype=np.float32), count=3)
    assert found.of_text.tolist() == [0] * 30
    assert found.silhouette == -1


def test_every_number_that_is_tried_is_told() -> None:
    texts, vectors, _ = themes()
    told: list[int] = []
    cluster_texts(texts, vectors, count=None, most=60, seed=1, advance=told.append)
    assert sum(told) == len(counts_to_try(120, 60))


@pytest.mark.parametrize(("texts", "count"), [(9, None), (12, 13)])
def test_too_few_texts_are_refused(texts: int, count: int | None) -> None:
    with pytest.raises(UsageError, match=f"{texts} texts are too few"):
        cluster(["text"] * texts, np.ones((texts, 4), dtype=np.float32), count=count)
