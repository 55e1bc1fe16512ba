"""What the benchmark labels is what it says it is."""

from __future__ import annotations

from streamer.app import bundled_directory
from streamer.bench.texts import FEWEST_TOKENS, MOST_TOKENS, bench_labels, bench_texts, bench_vocabulary, tokens_of


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


def test_the_vocabulary_knows_every_word() -> None:
    vocabulary = bench_vocabulary()
    assert len(vocabulary) == len(set(vocabulary))
    wordings = [label.wording for label in bench_labels().labels]
    for text in (*bench_texts(200, seed=5), *wordings):
        assert set(tokens_of(text.replace("_", " "))) <= set(vocabulary)
