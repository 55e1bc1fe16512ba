"""The stream of the cache's load test holds the repeats that it is said to hold."""

from __future__ import annotations

from load_tests.cache import REPEATS, with_repeats


def test_so_many_texts_came_before() -> None:
    fresh = [f"text {number}" for number in range(1000)]
    stream = with_repeats(fresh)
    assert len(stream) == len(fresh)
    assert stream[0] == fresh[0]
    assert sum(text in stream[:place] for place, text in enumerate(stream)) == REPEATS * len(fresh)
    assert set(stream) <= set(fresh)
