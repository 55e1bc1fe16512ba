"""What a model is sure of: the clearest texts of each label, and nothing in between."""

from __future__ import annotations

import numpy as np

from streamer.facets import Facet, Kind, Label
from streamer.tuning.weak import MOST_PER_LABEL, sure_examples

SINGLE = Facet("mood", Kind.SINGLE, (Label("good"), Label("bad"), Label("none")))
MULTI = Facet("topic", Kind.MULTI, (Label("bill"),))


def test_single_takes_the_clearest_half_of_each_label() -> None:
    logits = np.array([[5, 0, 0], [1, 0, 0], [0, 3, 1], [0, 4, 1], [0, 1.5, 1]], dtype=np.float32)
    found = sure_examples([SINGLE], "abcde", logits)
    assert found.texts == ("a", "c", "d")
    assert found.right.argmax(axis=1).tolist() == [0, 1, 1]
    assert found.right.sum() == found.known.sum() / 3 == 3


def test_multi_takes_the_clearest_of_either_side() -> None:
    logits = np.array([[4], [1], [-1], [-4]], dtype=np.float32)
    found = sure_examples([MULTI], "abcd", logits)
    assert (found.texts, found.right[:, 0].tolist()) == (("a", "d"), [True, False])


def test_facets_side_by_side_and_a_bound() -> None:
    rows = 4 * MOST_PER_LABEL
    logits = np.tile(np.array([[1, 0, 0, -9]], dtype=np.float32), (rows, 1))
    found = sure_examples([SINGLE, MULTI], [str(row) for row in range(rows)], logits)
    assert found.known[:, 0].sum() == found.known[:, 3].sum() == MOST_PER_LABEL
    assert not found.right[:, 3].any()
