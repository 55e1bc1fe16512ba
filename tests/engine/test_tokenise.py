"""Rows: the ids of tokenising the whole string, whatever stands in the text and however long it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, pre_tokenizers

from streamer.engine.base import Row
from streamer.engine.loading import read_tokenizer
from streamer.engine.tokenise import MIN_TEXT_TOKENS, FacetMode, RowTokeniser
from streamer.errors import UsageError
from streamer.facets import Facet, InContextExample, Kind, Label, LabelSet
from streamer.records import Document

ENCODERS = ("bert", "modernbert", "mmbert", "deberta-v2")
ORDERS = (True, False)
CONTROL = ("<<LABEL>>", "<<SEP>>", "<<EXAMPLE>>", "[SEP]", "[CLS]", "[MASK]", "[PAD]", "<|endoftext|>", "|||EMAIL|||")

Checkpoint = Callable[..., Path]
LabelSets = Callable[..., LabelSet]
Refer = Callable[[Path], Any]

any_text = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(["  ", "    ", "\n\n", "\t ", " the invoice", "Überweisung", "<<", ">>", "[", "]", "<", "|||"]),
        st.sampled_from(["e\u0301", "\u0338", "\u200d", "\u00a0", "\x00", "🙂", "東京", "<<label>>", "[sep]"]),
    ),
    max_size=8,
).map("".join)
# what a normaliser makes control tokens of: full-width signs, and control characters that it takes out
FORGED = ("\uff3bSEP\uff3d", "[S\x01EP]", "[MASK\u200b]", "\uff3bCLS]", "\uff1c\uff1cLABEL\uff1e\uff1e", "<\x02<SEP>>")
text_with_control_tokens = st.lists(
    st.one_of(
        st.sampled_from(CONTROL + FORGED), st.sampled_from(["<", ">", "<<", " ", "the phone", "LABEL>>"]), any_text
    ),
    max_size=8,
).map("".join)
relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def tokeniser(make_checkpoint: Checkpoint) -> Callable[..., RowTokeniser]:
    """`tokeniser("bert", prompt_first=..., window_tokens=..., facet_mode=...)`, one per set of arguments."""

    @cache
    def make(
        encoder: str, *, prompt_first: bool = True, window_tokens: int = 100_000, facet_mode: FacetMode = "separate"
    ) -> RowTokeniser:
        return RowTokeniser(
            tokenizer=read_tokenizer(make_checkpoint(encoder)),
            prompt_first=prompt_first,
            facet_mode=facet_mode,
            window_tokens=window_tokens,
        )

    return make


@pytest.fixture
def varied(one_facet: LabelSets) -> list[LabelSet]:
    """Bare labels; a prompt that a text may merge with; prompt and examples."""
    examples = (("the bill is too high ", ("billing",)), ("it is down", ("outage", "billing")))
    return [
        one_facet(["billing", "outage", "hardware.laptop"]),
        one_facet(["billing", "outage"], prompt="Classify the requ"),
        one_facet(["billing", "outage"], prompt="Classify: ", examples=examples),
    ]


def id_of(token: str, directory: Path) -> int:
    found = read_tokenizer(directory).token_to_id(token)
    assert found is not None
    return found


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("prompt_first", ORDERS)
@given(text=any_text)
@relaxed
def test_ids_are_those_of_the_whole_string(
    encoder: str,
    prompt_first: bool,
    make_checkpoint: Checkpoint,
    tokeniser: Callable[..., RowTokeniser],
    varied: list[LabelSet],
    reference: Refer,
    text: str,
) -> None:
    assume(not any(token in text for token in (*CONTROL, "[UNK]")))
    gliclass = reference(make_checkpoint(encoder, prompt_first=prompt_first))
    rows = tokeniser(encoder, prompt_first=prompt_first).rows([Document(text, labels) for labels in varied])
    assert [list(row.ids) for row in rows] == [gliclass.ids(text, labels) for labels in varied]
    assert not any(row.truncated for row in rows)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("prompt_first", ORDERS)
@given(text=text_with_control_tokens)
@relaxed
def test_nothing_in_a_text_becomes_a_control_token(
    encoder: str,
    prompt_first: bool,
    make_checkpoint: Checkpoint,
    tokeniser: Callable[..., RowTokeniser],
    varied: list[LabelSet],
    text: str,
) -> None:
    control = {read_tokenizer(make_checkpoint(encoder)).token_to_id(token) for token in CONTROL}
    rows = tokeniser(encoder, prompt_first=prompt_first).rows(
        [Document(content, labels) for labels in varied for content in (text, "")]
    )
    for row, empty in zip(rows[::2], rows[1::2], strict=True):
        assert [i for i in row.ids if i in control] == [i for i in empty.ids if i in control]


@given(text=text_with_control_tokens)
@relaxed
def test_a_neutralised_text_differs_by_spaces_alone(
    make_checkpoint: Checkpoint, tokeniser: Callable[..., RowTokeniser], one_facet: LabelSets, text: str
) -> None:
    labels = one_facet(["billing"])
    row, empty = tokeniser("modernbert").rows([Document(text, labels), Document("", labels)])
    ids = list(row.ids)[len(empty.ids) - 1 : -1]
    kept = read_tokenizer(make_checkpoint("modernbert")).decode(ids)
    same_form = read_tokenizer(make_checkpoint("modernbert")).normalizer.normalize_str(text)
    assert kept.replace(" ", "") == same_form.replace(" ", "")


def test_a_marker_matches_as_written_even_where_the_tokenizer_would_normalise_it(
    make_checkpoint: Checkpoint, one_facet: LabelSets
) -> None:
    lenient = Tokenizer.from_str(read_tokenizer(make_checkpoint("bert")).to_str().replace("<<LABEL>>", "<<ENTITY>>"))
    lenient.add_tokens([AddedToken("<<LABEL>>", normalized=True)])
    (label,) = lenient.encode("<<label>>", add_special_tokens=False).ids
    assert label == lenient.token_to_id("<<LABEL>>")
    rows = RowTokeniser(tokenizer=lenient, prompt_first=True, facet_mode="separate", window_tokens=100).rows(
        [Document("<<label>> <<LABEL>>", one_facet(["billing", "outage"]))]
    )
    assert list(rows[0].ids).count(label) == 2


@pytest.mark.parametrize("forged", ["\uff3bSEP\uff3d", "[S\x01EP]"])
def test_a_control_token_that_only_the_normaliser_makes_is_left_out_of_texts_and_refused_in_labels(
    forged: str, make_checkpoint: Checkpoint, tokeniser: Callable[..., RowTokeniser], one_facet: LabelSets
) -> None:
    sep = id_of("[SEP]", make_checkpoint("deberta-v2"))
    assert read_tokenizer(make_checkpoint("deberta-v2")).encode(forged).ids.count(sep) == 2, "its own, and the end"
    rows = tokeniser("deberta-v2").rows([Document(f"the {forged} phone", one_facet(["billing"]))])
    assert list(rows[0].ids).count(sep) == 1
    with pytest.raises(UsageError, match=r"label 'a .*': '\[SEP\]' is a control token"):
        tokeniser("deberta-v2").prepare(one_facet([f"a {forged}"]))


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
@pytest.mark.parametrize("prompt_first", ORDERS)
def test_a_space_before_the_first_word_is_put_where_the_whole_string_has_it(
    scheme: str, prompt_first: bool, make_checkpoint: Checkpoint, one_facet: LabelSets
) -> None:
    tokenizer = read_tokenizer(make_checkpoint("deberta-v2"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    rows = RowTokeniser(tokenizer=tokenizer, prompt_first=prompt_first, facet_mode="separate", window_tokens=1000).rows(
        [Document(text, one_facet(["billing", " bill"])) for text in ("phone", " phone ", "")]
    )
    labels = "<<LABEL>>billing<<LABEL>> bill<<SEP>>"
    for row, text in zip(rows, ("phone", " phone ", ""), strict=True):
        whole = labels + text if prompt_first else text + labels
        assert list(row.ids) == tokenizer.encode(whole).ids


def test_a_marker_made_by_prompt_and_text_together_is_broken_too(
    make_checkpoint: Checkpoint, tokeniser: Callable[..., RowTokeniser], one_facet: LabelSets
) -> None:
    label = id_of("<<LABEL>>", make_checkpoint("bert"))
    (row,) = tokeniser("bert").rows([Document("LABEL>>x", one_facet(["billing"], prompt="Sort: <<"))])
    assert list(row.ids).count(label) == 1


@pytest.mark.parametrize("prompt_first", ORDERS)
@pytest.mark.parametrize("encoder", ENCODERS)
@given(words=st.lists(st.sampled_from(["invoice", "phone!", " ", "\n" * 40, " " * 700, "x" * 90]), max_size=300))
@relaxed
def test_a_long_text_is_cut_at_its_end_and_nothing_else_is(
    encoder: str,
    prompt_first: bool,
    make_checkpoint: Checkpoint,
    tokeniser: Callable[..., RowTokeniser],
    varied: list[LabelSet],
    words: list[str],
) -> None:
    text, window = " ".join(words), 160
    documents = [Document(text, labels) for labels in varied]
    whole = tokeniser(encoder, prompt_first=prompt_first).rows(documents)
    cut = tokeniser(encoder, prompt_first=prompt_first, window_tokens=window).rows(documents)
    label = id_of("<<LABEL>>", make_checkpoint(encoder))
    for full, row, labels in zip(whole, cut, varied, strict=True):
        assert row.truncated == (len(full.ids) > window)
        assert len(row.ids) == row.cost_tokens == min(window, len(full.ids))
        assert list(row.ids).count(label) == row.labels == len(labels.labels)
        missing = len(full.ids) - len(row.ids)
        assert row.text_tokens == full.text_tokens - missing
        assert any(
            list(full.ids[:at]) + list(full.ids[at + missing :]) == list(row.ids) for at in range(len(row.ids) + 1)
        )


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_huge_text_costs_no_more_than_a_window_of_it(
    encoder: str, tokeniser: Callable[..., RowTokeniser], one_facet: LabelSets
) -> None:
    labels = one_facet(["billing"])
    small = tokeniser(encoder, window_tokens=512)
    small.prepare(labels)
    text = "nobody answers the phone " * 400_000  # 10 MB, which take many seconds to tokenise
    began = time.perf_counter()
    (row,) = small.rows([Document(text, labels)])
    assert time.perf_counter() - began < 1
    assert row.truncated
    assert len(row.ids) == 512


@pytest.mark.parametrize("prompt_first", ORDERS)
def test_separate_rows_are_those_of_each_facet_alone(
    prompt_first: bool, tokeniser: Callable[..., RowTokeniser]
) -> None:
    topics = Facet("topic", Kind.MULTI, (Label("billing"), Label("outage"), Label("other")))
    mood = Facet("mood", Kind.SINGLE, (Label("positive"), Label("negative", "angry or sad")))
    examples = (
        InContextExample("all is well", ("positive", "other")),
        InContextExample("too dear", ("billing",)),
    )
    alone = (
        LabelSet("a", (topics,), "Sort: ", (InContextExample("all is well", ("other",)), examples[1])),
        LabelSet("b", (mood,), "Sort: ", (InContextExample("all is well", ("positive",)),)),
    )
    some = tokeniser("bert", prompt_first=prompt_first)
    text = "the phone is dead"
    both = some.rows([Document(text, LabelSet("both", (topics, mood), "Sort: ", examples))])
    assert [list(row.ids) for row in both] == [
        list(row.ids) for row in some.rows([Document(text, labels) for labels in alone])
    ]
    assert [(row.first_label, row.labels) for row in both] == [(0, 3), (3, 2)]
    assert len({row.group for row in both}) == 2


def test_rows_stand_in_order_of_documents_and_cost_their_tokens(
    tokeniser: Callable[..., RowTokeniser], one_facet: LabelSets
) -> None:
    one, two = one_facet(["billing"]), LabelSet("two", one_facet(["a"]).facets + one_facet(["b", "c"]).facets)
    rows = tokeniser("bert").rows([Document("the phone", two), Document("the screen", one), Document("", two)])
    assert [row.document for row in rows] == [0, 0, 1, 2, 2]
    assert all(row.cost_tokens == len(row.ids) for row in rows)
    assert [row.text_tokens for row in rows] == [2, 2, 2, 0, 0]


def test_examples_show_labels_as_they_are_worded(
    make_checkpoint: Checkpoint, tokeniser: Callable[..., RowTokeniser]
) -> None:
    facet = Facet("topic", Kind.MULTI, (Label("billing", "a question about a bill"), Label("outage")))
    labels = LabelSet("tickets", (facet,), None, (InContextExample("wrong", ("outage", "billing")),))
    (row,) = tokeniser("modernbert").rows([Document("hello", labels)])
    read = read_tokenizer(make_checkpoint("modernbert")).decode(list(row.ids), skip_special_tokens=False)
    assert read.endswith("hello<<EXAMPLE>>wrong \nLabels:\n outage, billing: a question about a bill<<SEP>>[SEP]")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": ["billing", "a <<SEP>> b"]}, "facet 'topic', label 'a <<SEP>> b': '<<SEP>>' is a control token"),
        ({"labels": [Label("billing", "see [MASK]")]}, "label 'billing': '[MASK]' is a control token"),
        ({"prompt": "<<LABEL>>"}, "prompt: '<<LABEL>>' is a control token"),
        ({"examples": [("[CLS]", ("billing",))]}, "example 1: '[CLS]' is a control token"),
        ({"examples": [("x", ("billing",)), ("x", ("bills",))]}, "example 2: 'bills' is a label of none"),
        ({"labels": ["billing " * 40]}, "label set 'tickets', facet 'topic': labels, prompt and examples take"),
        ({"prompt": "billing " * 40}, f"leave less than {MIN_TEXT_TOKENS} for the text"),
    ],
)
@pytest.mark.parametrize("prompt_first", ORDERS)
def test_label_sets_that_cannot_be_served_are_refused(
    prompt_first: bool,
    changed: dict[str, Any],
    message: str,
    tokeniser: Callable[..., RowTokeniser],
    one_facet: LabelSets,
) -> None:
    with pytest.raises(UsageError) as refused:
        tokeniser("bert", prompt_first=prompt_first, window_tokens=50).prepare(
            one_facet(**{"labels": ["billing"], **changed})
        )
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_joint_row_too_long_is_refused_for_all_facets(
    tokeniser: Callable[..., RowTokeniser], one_facet: LabelSets
) -> None:
    facets = one_facet(["billing"] * 10).facets
    with pytest.raises(UsageError, match="label set 'both', all facets"):
        tokeniser("bert", window_tokens=50, facet_mode="joint").prepare(LabelSet("both", facets + facets))
    tokeniser("bert", window_tokens=50).prepare(LabelSet("both", facets + facets))


def test_tokenizers_of_other_models_are_refused(make_checkpoint: Checkpoint, one_facet: LabelSets) -> None:
    text = read_tokenizer(make_checkpoint("bert")).to_str()
    usual: dict[str, Any] = {"prompt_first": True, "facet_mode": "separate", "window_tokens": 100}
    for marker in ("<<LABEL>>", "<<SEP>>"):
        with pytest.raises(UsageError, match=f"no {marker} token"):
            RowTokeniser(tokenizer=Tokenizer.from_str(text.replace(marker, "<<OTHER>>")), **usual)
    without_examples = RowTokeniser(tokenizer=Tokenizer.from_str(text.replace("<<EXAMPLE>>", "<<OTHER>>")), **usual)
    without_examples.prepare(one_facet(["billing"]))
    with pytest.raises(UsageError, match="not trained with examples"):
        without_examples.prepare(one_facet(["billing"], examples=[("x", ("billing",))]))
    stripping = Tokenizer.from_str(text.replace("<<LABEL>>", "<<OTHER>>"))
    stripping.add_special_tokens([AddedToken("<<LABEL>>", lstrip=True)])
    with pytest.raises(UsageError, match="strips text before <<LABEL>>"):
        RowTokeniser(tokenizer=stripping, **usual)


def test_padding_and_truncation_stored_with_a_tokenizer_are_ignored(
    make_checkpoint: Checkpoint, tokeniser: Callable[..., RowTokeniser], one_facet: LabelSets
) -> None:
    stored = Tokenizer.from_str(read_tokenizer(make_checkpoint("bert")).to_str())
    stored.enable_truncation(8)
    stored.enable_padding(length=64)
    documents = [Document("nobody answers the phone please call me back", one_facet(["billing", "outage"]))]

    def rows(of: RowTokeniser) -> list[Row]:
        return of.rows(documents)

    assert rows(
        RowTokeniser(tokenizer=stored, prompt_first=True, facet_mode="separate", window_tokens=100_000)
    ) == rows(tokeniser("bert"))
