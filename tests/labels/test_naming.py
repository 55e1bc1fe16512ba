"""What clusters are called."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.labels.naming import CANDIDATES, choose_names, salient_terms


def flat(words: Sequence[str]) -> NDArray[np.float32]:
    """A model to which all words are one."""
    return np.tile(np.array([1, 0], dtype=np.float32), (len(words), 1))


def test_terms_are_frequent_in_their_cluster_and_rare_in_others() -> None:
    texts = ["my parcel is late please help"] * 5 + ["please help with the card payment"] * 5 + ["please help"] * 2
    terms = salient_terms(texts, np.array([0] * 5 + [1] * 5 + [2] * 2))
    first, second, third = ([term for term, _ in one] for one in terms)
    assert first == ["late", "parcel"]  # no pair across a stop word
    assert second == ["card", "card payment", "payment"]
    assert third == []  # what most texts have names nothing, and stop words are none
    assert all(one[0][1] == 1 and one[-1][1] > 0 and len(one) <= CANDIDATES for one in terms[:2])


def test_courtesies_name_nothing() -> None:
    texts = ["Dear team, my parcel is late. Kind regards"] * 5 + ["Hi, the card was declined, thanks"] * 5
    first, second = ({term for term, _ in one} for one in salient_terms(texts, np.array([0] * 5 + [1] * 5)))
    assert first == {"parcel", "late"}
    assert second == {"card", "declined"}


def test_texts_without_words_have_no_terms() -> None:
    assert salient_terms(["12 34", "56"], np.array([0, 1])) == [[], []]


def test_a_name_is_salient_and_near_in_the_eyes_of_the_model() -> None:
    terms = [[("late", 1.0), ("parcel", 0.9)]]
    middles = np.array([[1, 0]], dtype=np.float32)
    assert choose_names(terms, middles, flat) == ["late"]

    def knows(words: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[1, 0] if word == "parcel" else [0, 1] for word in words], dtype=np.float32)

    assert choose_names(terms, middles, knows) == ["parcel"]


def test_no_two_names_are_the_same() -> None:
    middles = np.tile(np.array([1, 0], dtype=np.float32), (5, 1))
    card = ("card", 1.0)
    terms = [[card, ("payment", 0.5)], [card, ("payment card", 0.9)], [card], [], [card, ("payment", 0.5)]]
    names = choose_names(terms, middles, flat)
    assert names == ["card", "payment card", "group 3", "group 4", "payment"]
    assert choose_names([[card, ("pay", 0.5)]] * 3, middles[:3], flat) == ["card", "pay", "card pay"]
