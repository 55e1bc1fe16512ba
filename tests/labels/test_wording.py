"""What is remarked on by labels' names alone, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.facets import Facet, Kind, Label
from streamer.labels.wording import bare, long_wordings, same_names, shown, told_by_names, wording_tips
from streamer.settings import load_settings

DEMO = Path(__file__).parents[2] / "streamer" / "demo" / "demo.yaml"


def facet(*labels: str | Label, kind: Kind = Kind.SINGLE) -> Facet:
    return Facet("facet", kind, tuple(one if isinstance(one, Label) else Label(one) for one in labels))


def tips(*labels: str | Label, kind: Kind = Kind.SINGLE) -> list[str]:
    return [remark.what for remark in wording_tips(facet(*labels, kind=kind))]


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (("spam", "not spam"), "'not spam': negations are read badly"),
        (("hate", "neither hateful nor rude"), "'neither hateful nor rude': negations"),
        (("signal", "no signal"), "'no signal': negations"),
        (("billing", "other"), "'other': what is left over has no meaning"),
        (("billing", "None of these"), "'None of these': what is left over"),
        (("billing", "other useful information"), "'other useful information': what is left over"),
        (("billing", "n/a"), "'n/a': what is left over"),
        (("1", "2"), "'1', '2': numbers alone say nothing"),
        (("card_declined", "billing"), "'card_declined': read like codes"),
        (("cardDeclined", "billing"), "'cardDeclined': read like codes"),
        (("BUG-1023", "billing"), "'BUG-1023': read like codes"),
        (("KYC", "billing"), "'KYC': read like abbreviations"),
        (("qst", "billing"), "'qst': read like abbreviations"),
        (("BILLING QUESTION", "delivery"), "'BILLING QUESTION': stand in capitals"),
        (("flight", "flight delay"), "'flight delay' seems to be a kind of 'flight'"),
        (("hardware", "hardware.laptop"), "'hardware.laptop' seems to be a kind of 'hardware'"),
    ],
)
def test_a_wording_that_models_read_badly_is_told(labels: tuple[str, ...], what: str) -> None:
    (told,) = tips(*labels)
    assert told.startswith(what)


@pytest.mark.parametrize(
    "labels",
    [
        ("negative", "neutral", "positive", "very negative", "very positive"),
        ("cannot log in", "no signal", "late delivery"),
        ("account access", "feature request", "refund request"),
        ("AI", "TV", "politics"),
        ("web3", "covid", "season 2"),
        ("👍", "👎", "!", "?"),
        ("Ärger", "Überraschung", "喜び"),
        (Label("1", "strongly disagree"), Label("KYC", "proof of identity"), Label("card_declined", "a refused card")),
    ],
)
def test_a_wording_that_is_fine_is_left_alone(labels: tuple[str | Label, ...]) -> None:
    assert tips(*labels) == []
    assert list(same_names(facet(*labels))) == []


def test_the_labels_of_the_demo_are_fine() -> None:
    for label_set in load_settings(DEMO).build_label_sets().values():
        for one in label_set.facets:
            assert [*wording_tips(one), *same_names(one), *long_wordings(one)] == []


def test_of_a_multi_facet_a_kind_and_its_kinds_may_both_hold() -> None:
    assert tips("flight", "flight delay", kind=Kind.MULTI) == []
    (remark,) = wording_tips(facet("billing", "other", kind=Kind.MULTI))
    assert "none holds where nothing fits" in remark.advice
    (remark,) = wording_tips(facet("billing", "other"))
    assert "min_score" in remark.advice


def test_labels_of_one_rule_are_told_in_one_line_and_only_a_few_by_name() -> None:
    (told,) = tips(*map(str, range(12)))
    assert told.startswith("'0', '1', '2', '3', '4' and 7 more: numbers")


def test_names_that_mean_the_same_are_found() -> None:
    def told(*labels: str) -> list[str]:
        return [remark.what for remark in same_names(facet(*labels))]

    assert told("Log in", "LOG-IN", "x") == [
        "'Log in' and 'LOG-IN' differ only in case, blanks or punctuation: each takes from the other"
    ]
    (same_words,) = told("billing question", "questions about billing", "queries")
    assert same_words.startswith("'billing question' and 'questions about billing' are made of the same words")
    assert told("bus", "business", "process", "processing") == []


def test_what_the_names_show_already_needs_no_second_line() -> None:
    assert told_by_names("sport", "Sports")
    assert told_by_names("meeting schedule", "schedule meeting")
    assert told_by_names("16", "17")
    assert not told_by_names("movie", "film")


def test_long_wordings_are_told_where_no_model_is_asked() -> None:
    (remark,) = long_wordings(facet(Label("a", "word " * 24), "b"))
    assert remark.what == "the model reads 25 words for label 'a', and may cut them"


def test_names_are_shown_without_control_characters() -> None:
    assert shown(["a\x1b[31m", "b" * 100]) == f"'a\\x1b[31m', '{'b' * 60}…'"
    assert bare("Straße 1!") == "strasse1"
