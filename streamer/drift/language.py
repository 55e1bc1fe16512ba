"""Which language a text is in, roughly: for shares of a stream, never to decide anything about one record.

Enters: a text. Leaves: `en`, `de`, `fr`, `es`, `it`, `pt` or `nl`; `latin` for what else has Latin letters, too short a
text included; the name of another script; `other`. Must not know: models, streams.

Of the first 200 characters, the script most of the letters are of is told by their Unicode block. A text in Latin
letters goes to the language most of whose commonest words stand in it; a word that two of them share counts for both.
That takes a few microseconds, without a model or a library.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

HEAD_CHARACTERS = 200
KANA_SHARE = 0.1  # of Han and kana together: Japanese has far more, Chinese none

_LATIN = "latin"
_NONE = "other"  # no letters, or of a script that has no name here
SCRIPTS = (_NONE, _LATIN, "greek", "cyrillic", "hebrew", "arabic", "devanagari", "thai", "kana", "han", "hangul")

# first code point of a stretch -> its script; a stretch ends where the next begins
_STRETCHES: Mapping[int, str] = {
    0x0000: _NONE, 0x0041: _LATIN, 0x005B: _NONE, 0x0061: _LATIN, 0x007B: _NONE, 0x00C0: _LATIN, 0x02B0: _NONE,
    0x0370: "greek", 0x0400: "cyrillic", 0x0530: _NONE, 0x0590: "hebrew", 0x0600: "arabic", 0x0700: _NONE,
    0x0750: "arabic", 0x0780: _NONE, 0x08A0: "arabic", 0x0900: "devanagari", 0x0980: _NONE, 0x0E00: "thai",
    0x0E80: _NONE, 0x1100: "hangul", 0x1200: _NONE, 0x1E00: _LATIN, 0x1F00: "greek", 0x2000: _NONE, 0x3040: "kana",
    0x3100: _NONE, 0x3130: "hangul", 0x3190: _NONE, 0x3400: "han", 0xA000: _NONE, 0xAC00: "hangul", 0xD7B0: _NONE,
    0xF900: "han", 0xFB00: _LATIN, 0xFB07: _NONE, 0xFB1D: "hebrew", 0xFB50: "arabic", 0xFE00: _NONE, 0xFE70: "arabic",
    0xFEFF: _NONE, 0xFF21: _LATIN, 0xFF5B: _NONE, 0xFF66: "kana", 0xFFA0: "hangul", 0xFFDD: _NONE, 0x20000: "han",
    0x323B0: _NONE,
}  # fmt: skip
_STARTS = np.array(list(_STRETCHES), dtype=np.uint32)
_SCRIPT_OF = np.array([SCRIPTS.index(script) for script in _STRETCHES.values()])

_COMMON_WORDS: Mapping[str, str] = {
    "en": "the and of to is in it that was for on are with as be this have from at by not but or what my your you we "
    "they has been will would can there their which when i do if our",
    "de": "der die das und ist nicht ich sie es ein eine zu mit auf für von dem den des im auch sich wir aber wie wird "
    "bei oder noch nach wurde kann mein meine habe haben wenn dass sind war nur",
    "fr": "le la les de des et est une un en que qui pas pour dans sur je il elle nous vous avec ce cette mon ma mes "
    "au aux du ne se plus par été être sont mais ou c'est j'ai très",
    "es": "el la los las de y que en es un una no por con para su se lo como más pero mi me al del este está muy ya si "
    "fue son hay sin yo tengo qué cuando",
    "it": "il la le gli di e che non un una per con sono è del della dei nel si come mi ma anche più ho questo questa "
    "alla dal ci se lo mio mia quando stato molto da",
    "pt": "o a os as de e que não um uma para com em do da dos das no na se por mais mas foi como eu você meu minha ao "
    "está são muito já tem isso quando ele ela",
    "nl": "de het een en van is niet ik dat te op voor met zijn in er aan maar om ook als bij nog uit naar mijn je wij "
    "heb heeft wordt kan geen deze dit wat werd door was",
}
_BY_WORDS = tuple(_COMMON_WORDS)
_PLACES_OF: dict[str, list[int]] = {}  # word -> places in _BY_WORDS
for _place, _words in enumerate(_COMMON_WORDS.values()):
    for _word in _words.split():
        _PLACES_OF.setdefault(_word, []).append(_place)

LANGUAGES = (*_BY_WORDS, *(script for script in SCRIPTS if script != _NONE), _NONE)


def language_of(text: str) -> str:
    """One of LANGUAGES; looks at the first HEAD_CHARACTERS alone."""
    head = text[:HEAD_CHARACTERS]
    script = _LATIN if head.isascii() and head.upper() != head.lower() else _script(head)
    return _language_by_words(head) if script == _LATIN else script


def _script(head: str) -> str:
    code_points = np.frombuffer(head.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    found = _SCRIPT_OF[np.searchsorted(_STARTS, code_points, side="right") - 1]
    letters = np.bincount(found, minlength=len(SCRIPTS))
    letters[SCRIPTS.index(_NONE)] = 0  # blanks, digits, signs: they tell nothing where there are letters
    kana, han = (int(letters[SCRIPTS.index(script)]) for script in ("kana", "han"))
    if kana and kana >= KANA_SHARE * (kana + han):
        letters[SCRIPTS.index("kana")] += han
    return SCRIPTS[int(letters.argmax())]


def _language_by_words(head: str) -> str:
    votes = [0] * len(_BY_WORDS)
    for word in head.lower().split():
        for place in _PLACES_OF.get(word, ()):
            votes[place] += 1
    most = max(votes)
    return _BY_WORDS[votes.index(most)] if votes.count(most) == 1 else _LATIN
