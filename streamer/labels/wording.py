"""What labels' names alone give away: names that mean the same, and wordings that a zero-shot model reads badly.

Enters: a Facet. Leaves: Remarks, one for each rule, naming its labels. The word lists are English; a name in another
language is remarked on by its signs alone. Must not know: models, texts, where remarks are shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from streamer.facets import Facet, Kind, Label
from streamer.terminal import printable

SHOWN_LABELS = 5  # of one remark
SHOWN_CHARACTERS = 60  # of one name
LONG_LABEL_WORDS = 24
ABBREVIATION_LETTERS = 5
CAPITALS = 6  # letters from which a word in capitals is none that people write so


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


NEGATIONS = _set("not non neither nor never isn't doesn't")
ABSENCES = NEGATIONS | {"no", "without"}  # they negate where the rest of the name is a label too
REMAINDERS = _set("other others misc miscellaneous none unknown unclear undefined n/a")
BESIDE_REMAINDERS = _set(
    "of these the above them all any label labels topic topics category categories or and else everything anything"
)
FILLING = _set("a an the of for to with about in on and or &")
GRADES = _set("very slightly somewhat rather quite extremely strongly mostly most more less highly mildly")
KNOWN_ABBREVIATIONS = _set(
    "ai api atm cd cpu cv dvd eu faq gps gpu hr id it lcd nfl nba pc pdf pin pr sms tv uk us usa usb vpn www wifi"
)


@dataclass(frozen=True, slots=True)
class Remark:
    """`what` names the labels and what is the matter with them, `advice` says what to do."""

    what: str
    advice: str


def shown(names: Iterable[str]) -> str:
    """Names in quotes, those that are too many as a number."""
    quoted = [f"'{printable(name, SHOWN_CHARACTERS)}'" for name in names]
    more = len(quoted) - SHOWN_LABELS
    return ", ".join(quoted[:SHOWN_LABELS]) + (f" and {more} more" if more > 0 else "")


def same_names(facet: Facet) -> Iterator[Remark]:
    """Labels whose names differ by what people vary when they mean the same."""
    spelled = _grouped(facet.labels, lambda label: bare(label.name) or label.name)
    for names in spelled:
        what = f"{_and(names)} differ only in case, blanks or punctuation: each takes from the other"
        yield Remark(what, "keep one of them")
    of_same_words = _grouped(facet.labels, lambda label: " ".join(sorted(_stems(label.name))) or label.name)
    for names in of_same_words:
        if len({bare(name) for name in names}) == len(names):
            what = f"{_and(names)} are made of the same words: each takes from the other"
            yield Remark(what, "keep one of them, or say in a description what parts them")


def wording_tips(facet: Facet) -> Iterator[Remark]:
    """What to word differently; labels with a description are left alone where that tells the model enough."""
    bald = [label.name for label in facet.labels if label.description is None]
    names = [label.name for label in facet.labels]
    single = facet.kind is Kind.SINGLE
    yield from _tip(
        [name for name in names if _is_remainder(name)],
        "what is left over has no meaning of its own that a model could look for",
        f"leave it out{' and set min_score or min_margin: the facet abstains' if single else ': none holds'} where "
        "nothing fits",
    )
    yield from _tip(
        [name for name in names if _is_negation(name, names) and not _is_remainder(name)],
        "negations are read badly: a text about the thing itself scores high, too",
        "word what is there instead (harmless, not 'not offensive')"
        + ("" if single else ", or leave it out and read it from the other label's absence"),
    )
    yield from _tip(
        [name for name in bald if _is_number(name)],
        "numbers alone say nothing to a model",
        "name what they stand for; your own number can be put back by a reader of the events",
    )
    yield from _tip(
        [name for name in bald if _is_code(name)],
        "read like codes or identifiers, not like words",
        "write words with blanks between them, or add a description (name: description)",
    )
    yield from _tip(
        [name for name in bald if _is_abbreviation(name)],
        "read like abbreviations, which a model may not know",
        "spell them out, or add a description (name: description)",
    )
    yield from _tip(
        [name for name in bald if _is_shouted(name)],
        "stand in capitals, which models read as abbreviations or not at all",
        "write them as within a sentence",
    )
    if single:
        yield from _mixed_levels(names)


def long_wordings(facet: Facet) -> Iterator[Remark]:
    """Labels of more words than the models that are around read; for where the model itself cannot be asked."""
    for label in facet.labels:
        words = len(label.wording.split())
        if words > LONG_LABEL_WORDS:
            what = f"the model reads {words} words for label {shown([label.name])}, and may cut them"
            yield Remark(what, f"describe it in about {LONG_LABEL_WORDS} words at most")


def told_by_names(one: str, other: str) -> bool:
    """Whether the names alone show why a model takes two labels for nearly the same."""
    return bare(one) == bare(other) or _stems(one) == _stems(other) or (_is_number(one) and _is_number(other))


def bare(name: str) -> str:
    """A name without what people vary when they mean the same."""
    return "".join(sign for sign in unicodedata.normalize("NFKC", name).casefold() if sign.isalnum())


def _and(names: Sequence[str]) -> str:
    return shown(names).replace("', '", "' and '")


def _grouped(labels: Sequence[Label], key: Callable[[Label], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(key(label), []).append(label.name)
    return [names for names in groups.values() if len(names) > 1]


def _words(name: str) -> list[str]:
    return re.findall(r"[\w'/]+|&", unicodedata.normalize("NFKC", name).casefold().replace("_", " "))


def _stems(name: str) -> frozenset[str]:
    """Words that carry meaning, plurals as singulars."""
    return frozenset(_singular(word) for word in _words(name) if word not in FILLING)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if plural else word


def _tip(names: Sequence[str], what: str, advice: str) -> Iterator[Remark]:
    if names:
        yield Remark(f"{shown(names)}: {what}", advice)


def _is_remainder(name: str) -> bool:
    words = _words(name)
    if words[:1] == ["other"]:
        return True
    return bool(REMAINDERS.intersection(words)) and REMAINDERS.union(BESIDE_REMAINDERS).issuperset(words)


def _is_negation(name: str, names: Sequence[str]) -> bool:
    words = _words(name)
    if NEGATIONS.intersection(words):
        return True
    rest = frozenset(_singular(word) for word in words if word not in ABSENCES | FILLING)
    return bool(ABSENCES.intersection(words)) and any(rest == _stems(other) for other in names if other != name)


def _is_number(name: str) -> bool:
    signs = bare(name)
    return any(sign.isdigit() for sign in signs) and not any(sign.isalpha() for sign in signs)


def _is_code(name: str) -> bool:
    mixed = any(re.search(r"[^\W\d_]{1,}[-_.]?\d{2,}|\d{2,}[-_.]?[^\W\d_]", word) for word in name.split())
    joined = re.search(r"\w_\w|[a-z][A-Z]", name) is not None
    return mixed or joined


def _is_abbreviation(name: str) -> bool:
    word = name.strip()
    if not (word.isascii() and word.isalpha()) or word.casefold() in KNOWN_ABBREVIATIONS:
        return False
    capitals = word.isupper() and 2 <= len(word) <= ABBREVIATION_LETTERS
    return capitals or (2 <= len(word) <= ABBREVIATION_LETTERS and not re.search("[aeiouy]", word.casefold()))


def _is_shouted(name: str) -> bool:
    return name.isupper() and sum(sign.isalpha() for sign in name) >= CAPITALS


def _mixed_levels(names: Sequence[str]) -> Iterator[Remark]:
    """Labels whose words all stand in another label: of which only one can be given."""
    stems = {name: _stems(name) for name in names}
    pairs = [
        (wide, narrow)
        for wide in names
        for narrow in names
        if stems[wide] and stems[wide] < stems[narrow] and not stems[narrow] - stems[wide] <= GRADES
        and not _is_negation(narrow, names)
    ]  # fmt: skip
    if pairs:
        wide, narrow = pairs[0]
        more = f", and {len(pairs) - 1} more such pairs" if len(pairs) > 1 else ""
        yield Remark(
            f"{shown([narrow])} seems to be a kind of {shown([wide])}{more}: both fit a text, one is given",
            "keep labels of one level in a facet, and ask for finer ones in a facet of their own",
        )
