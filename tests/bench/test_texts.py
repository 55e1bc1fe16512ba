"""What the benchmark labels is what it says it is."""

from __future__ import annotations

import pytest

from streamer.app import bundled_directory
from streamer.bench.texts import (
    FEWEST_TOKENS,
    MOST_TOKENS,
    bench_labels,
    bench_labels_of,
    bench_texts,
    bench_texts_of,
    bench_vocabulary,
    tokens_of,
)


def test_texts_have_20_to_80_tokens_and_use_the_range() -> None:
    lengths = [len(tokens_of(text)) for text in bench_texts(500, seed=1)]
    assert min(lengths) == FEWEST_TOKENS == 20
    assert max(lengths) == MOST_TOKENS == 80
    assert 45 < sum(lengths) / len(lengths) < 55


def test_a_real_vocabulary_sees_about_as_many_tokens() -> None:
    from streamer.engine.loading import read_tokenizer

    tokenizer = read_tokenizer(bundled_directory())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    for text in bench_texts(100, seed=2):
        own = len(tokens_of(text))
        assert own <= len(tokenizer.encode(text, add_special_tokens=False).ids) <= own + 10


def test_a_seed_gives_the_same_texts_and_another_one_others() -> None:
    assert bench_texts(20, seed=3) == bench_texts(20, seed=3)
    assert set(bench_texts(20, seed=3)).isdisjoint(bench_texts(20, seed=4))


def test_labels_are_three_facets_of_4_12_and_8() -> None:
    assert [len(facet.labels) for facet in bench_labels().facets] == [4, 12, 8]


@pytest.mark.parametrize("tokens", [1, 16, 512])
def test_texts_of_a_length_have_it(tokens: int) -> None:
    texts = bench_texts_of(tokens, 5, seed=1)
    assert [len(tokens_of(text)) for text in texts] == [tokens] * 5
    assert texts == bench_texts_of(tokens, 5, seed=1)


def test_so_many_labels_are_all_different_and_fewer_are_the_first_of_them() -> None:
    (many,), (few,) = bench_labels_of(128).facets, bench_labels_of(16).facets
    assert len({label.wording for label in many.labels}) == 128
    assert few.labels == many.labels[:16]
    with pytest.raises(ValueError, match="100000 labels"):
        bench_labels_of(100_000)


def test_the_vocabulary_knows_every_word() -> None:
    vocabulary = bench_vocabulary()
    assert len(vocabulary) == len(set(vocabulary))
    wordings = [label.wording for labels in (bench_labels(), bench_labels_of(128)) for label in labels.labels]
    for text in (*bench_texts(200, seed=5), *wordings):
        assert set(tokens_of(text.replace("_", " "))) <= set(vocabulary)
