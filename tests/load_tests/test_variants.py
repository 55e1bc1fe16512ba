"""The variants: what of a label's logit depends on other labels, that they learn, and that they are measured alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from load_tests.variants.fit import Fitted, fit
from load_tests.variants.measure import check_room, measure, sample_texts
from load_tests.variants.models import VARIANTS, Variant, build_variant, encode_visible, part_means
from load_tests.variants.rows import NO_PART, full_row, independent_row
from streamer.engine.attention import encode_with_queries
from streamer.engine.loading import load_independent, read_tokenizer
from streamer.errors import UsageError
from streamer.tuning.data import LabelledSet
from streamer.tuning.recipe import SetSource
from streamer.tuning.train import TrainSettings, token_ids

LABEL_TOKENS = 12
CLS, SEP, MARKER, SEPARATOR = 2, 3, 900, 901
LETTERS = ("alpha", "beta", "gamma", "delta")
TEXTS = LabelledSet(
    "letters",
    LETTERS,
    tuple(f"{name[0] * 4} {i}" for i in range(8) for name in LETTERS),
    tuple((name,) for _ in range(8) for name in LETTERS),
    False,
)


def build(name: str, start: Path) -> Variant:
    torch.manual_seed(1)
    return build_variant(name, start, label_tokens=LABEL_TOKENS).eval()


def tokenizer_of(start: Path) -> Tokenizer:
    tokenizer = read_tokenizer(start)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def ids(start: Path, texts: Sequence[str]) -> list[list[int]]:
    return token_ids(tokenizer_of(start), texts, LABEL_TOKENS)


def trained(name: str, start: Path, steps: int) -> tuple[Variant, Fitted, list[int]]:
    variant, told = build(name, start), list[int]()
    settings = TrainSettings(
        steps=steps, stop_after=steps, seed=3, batch=16, window=32, encoder_rate=3e-3, head_rate=3e-3, warm_up_steps=5,
        text_tokens=24, label_tokens=LABEL_TOKENS, fewest_labels=4, most_labels=4,
    )  # fmt: skip
    sources = [SetSource(TEXTS, kind="", weight=1.0)]
    fitted = fit(variant, tokenizer_of(start), sources, settings, lambda step, loss: told.append(step))
    return variant, fitted, told


def test_rows_of_independent_labels() -> None:
    row = independent_row([CLS, 10, 11, 12, SEP], [[CLS, 20, 21, SEP], [CLS, 30, SEP]], marker=MARKER, label_position=4)
    assert row.ids == [CLS, 10, 11, SEP, MARKER, 20, 21, MARKER, 30]
    assert row.positions == [0, 1, 2, 3, 4, 5, 6, 4, 5]
    assert row.parts == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert row.labels == 2


def test_rows_of_full_attention() -> None:
    text, labels = [CLS, 10, 11, 12, SEP], [[CLS, 20, 21, SEP], [CLS, 30, SEP]]
    row = full_row(text, labels, marker=MARKER, separator=SEPARATOR, positions=10)
    assert row.ids == [CLS, MARKER, 20, 21, MARKER, 30, SEPARATOR, 10, 11, SEP]
    assert row.positions == list(range(10))
    assert row.parts == [0, 1, 1, 1, 2, 2, NO_PART, 0, 0, 0]
    with pytest.raises(ValueError, match="2 labels leave no room for a text in 8 positions"):
        full_row(text, labels, marker=MARKER, separator=SEPARATOR, positions=8)


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_logit_depends_on(name: str, tiny_bundled: Path) -> None:
    variant = build(name, tiny_bundled)
    labels = ids(tiny_bundled, LETTERS)
    short, long = ids(tiny_bundled, ["abc", "defghi"])
    with torch.inference_mode():
        answer = variant.ask(labels)
        all_labels = answer([short], [range(4)])
        padded = answer([short, long], [range(4), range(4)])[:1]
        other_order = answer([short], [[3, 2, 1, 0]]).flip(1)
        alone = torch.cat([answer([short], [[i]]) for i in range(4)], dim=1)
        among_others = variant.ask([*ids(tiny_bundled, ["zeta"]), *labels])([short], [range(1, 5)])
    torch.testing.assert_close(padded, all_labels, atol=1e-5, rtol=0)
    torch.testing.assert_close(among_others, all_labels, atol=1e-5, rtol=0)
    if name == "full_attention":
        assert (other_order - all_labels).abs().max() > 1e-3
        assert (alone - all_labels).abs().max() > 1e-3
    else:
        torch.testing.assert_close(other_order, all_labels, atol=1e-5, rtol=0)
        torch.testing.assert_close(alone, all_labels, atol=1e-5, rtol=0)
    assert variant.tokens(short, labels) == {
        "full_attention": len(short) + 1 + sum(len(label) - 1 for label in labels),
        "all_words": len(short) + sum(len(label) - 1 for label in labels),
        "one_token": len(short) + len(labels),
    }[name]  # fmt: skip


def test_the_encoder_is_that_of_the_bundled_model(tiny_bundled: Path) -> None:
    """Parts of one token each are its queries."""
    encoder = load_independent(tiny_bundled).encoder
    states = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    parts = torch.tensor([[0] * 5 + [1, 2]] * 2)
    real = torch.cat([mask, torch.ones(2, 2, dtype=torch.bool)], dim=1)
    visible = real[:, None, :] & ((parts[:, None, :] == 0) | (parts[:, None, :] == parts[:, :, None]))
    with torch.inference_mode():
        ours = encode_visible(encoder, states[real], real, visible)
        theirs = encode_with_queries(encoder, states, 5, mask)
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-5, rtol=1e-5)


def test_part_means() -> None:
    states = torch.tensor([[[1.0], [3.0], [10.0], [7.0]]])
    means: Tensor = part_means(states, torch.tensor([[0, 0, 2, -1]]), 3)
    assert means.squeeze().tolist() == [2.0, 0.0, 10.0]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_learns_and_is_measured(name: str, tiny_bundled: Path) -> None:
    variant, fitted, told = trained(name, tiny_bundled, 60)
    assert told == [20, 40, 60]
    assert fitted.examples == 960
    assert fitted.losses[-1] < fitted.losses[0] / 2
    done: list[int] = []
    tokenizer = tokenizer_of(tiny_bundled)
    found = measure(variant, tokenizer, [TEXTS], label_tokens=LABEL_TOKENS, progress=done.append)
    (score,) = found.sets
    assert sum(done) == len(TEXTS.texts) == len(score.given)
    assert score.macro_f1 > 0.5
    right = [given == (LETTERS.index(names[0]),) for given, names in zip(score.given, TEXTS.labels, strict=True)]
    assert score.accuracy == pytest.approx(sum(right) / len(right))
    assert found.tokens == variant.tokens(ids(tiny_bundled, TEXTS.texts)[0], ids(tiny_bundled, LETTERS))


def test_a_label_list_too_long_is_told_before_training(tiny_bundled: Path) -> None:
    labels = tuple(f"label{i}" for i in range(9))
    many = LabelledSet("many", labels, ("a",), (("label1",),), False)
    tokenizer = tokenizer_of(tiny_bundled)
    check_room(build("all_words", tiny_bundled), tokenizer, [many], label_tokens=LABEL_TOKENS)
    with pytest.raises(UsageError, match="'many': 9 labels leave no room for a text in 48 positions; leave it out"):
        check_room(build("full_attention", tiny_bundled), tokenizer, [many], label_tokens=LABEL_TOKENS)


def test_a_sample_is_the_same_each_time() -> None:
    one = sample_texts(TEXTS, 5, seed=0)
    assert one == sample_texts(TEXTS, 5, seed=0)
    assert len(one.texts) == len(one.labels) == 5
    assert set(zip(one.texts, one.labels, strict=True)) <= set(zip(TEXTS.texts, TEXTS.labels, strict=True))
    assert one.names == LETTERS
    assert sample_texts(TEXTS, 100, seed=0) == TEXTS
