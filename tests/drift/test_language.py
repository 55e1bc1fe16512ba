"""Scripts by letters, languages by their commonest words."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.drift.language import HEAD_CHARACTERS, LANGUAGES, language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("My parcel is late and nobody at the hotline can tell me where it is", "en"),
        ("Das Paket ist noch nicht da und ich kann auch niemanden erreichen", "de"),
        ("Je ne peux pas me connecter avec mon compte, et c'est très urgent", "fr"),
        ("No puedo entrar en mi cuenta y ya no sé qué hacer con el pedido", "es"),
        ("Non riesco ad accedere e la fattura di questo mese è anche più alta", "it"),
        ("Não consigo entrar e a minha fatura já está muito mais alta, com uma taxa", "pt"),
        ("Ik kan niet inloggen en het pakket is ook nog niet bij ons", "nl"),
        ("Paket gecikti", "latin"),
        ("Мой заказ до сих пор не пришёл", "cyrillic"),
        ("\u0397 παραγγελία μου δεν έχει έρθει", "greek"),
        ("لم تصل شحنتي بعد", "arabic"),
        ("החבילה שלי לא הגיעה", "hebrew"),
        ("मेरा पार्सल नहीं आया", "devanagari"),
        ("พัสดุของฉันยังไม่มา", "thai"),
        ("我的包裹还没到", "han"),
        ("荷物がまだ届いていません", "kana"),
        ("소포가 아직 안 왔어요", "hangul"),
        ("", "other"),
        ("12345 !!! 🙂", "other"),
        ("my order is not here and it was promised 🙂🙂", "en"),
        ("THE PARCEL IS NOT HERE AND IT WAS PROMISED", "en"),
    ],
)
def test_a_text_is_told_by_script_and_words(text: str, language: str) -> None:
    assert language_of(text) == language


@given(st.text(st.characters()))
def test_any_text_has_one_of_the_languages(text: str) -> None:
    assert language_of(text) in LANGUAGES


def test_lone_surrogates_have_a_language_too() -> None:
    assert language_of("\ud800 a\udfff") == "latin"


def test_only_the_head_counts() -> None:
    head = ("the parcel is late and " * 20)[:HEAD_CHARACTERS]
    assert language_of(head + " и не пришёл" * 1000) == language_of(head) == "en"
    begun_s = time.perf_counter()
    language_of("the parcel is late, ö " * 100_000)
    assert time.perf_counter() - begun_s < 0.5
