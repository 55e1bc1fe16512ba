"""The mixture that trains a zero-shot model: which texts, which labels beside them, worded how.

Enters: LabelledSets and WordNet glosses. Leaves: an endless, seeded stream of `Example`s: a text, a short list
of label wordings, and which of them hold. Must not know: models, tokenizers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from streamer.tuning.data import LabelledSet, WrittenText
from streamer.tuning.wordnet import Gloss


@dataclass(frozen=True, slots=True)
class Example:
    """One training row: `holds[i]` says whether `labels[i]` is true of `text`."""

    text: str
    labels: tuple[str, ...]
    holds: tuple[bool, ...]


class Source(Protocol):
    """Something examples can be drawn from, with at most `most` labels each."""

    weight: float

    def draw(self, random: Random, most: int) -> Example: ...


PLAIN_SHARE = 0.55  # of label lists shown word for word, as users mostly write them
CAPITAL_SHARE = 0.2
NO_TRUE_LABEL_SHARE = 0.12
NEGATED_SHARE = 0.05

TEMPLATES: dict[str, tuple[str, ...]] = {
    "sentiment": ("{} sentiment", "{} opinion", "expresses a {} opinion", "{} review", "the mood is {}", "{} tone"),
    "emotion": ("expresses {}", "feeling of {}", "the writer feels {}", "{} emotion"),
    "intent": ("about {}", "request: {}", "the customer asks about {}", "intent: {}", "{} request"),
    "topic": ("about {}", "topic: {}", "this text is about {}", "{} related"),
}

# near-synonyms, so that a label means more than one string
SYNONYMS: dict[str, tuple[str, ...]] = {
    "joy": ("happiness", "delight"),
    "nervousness": ("anxiety", "worry"),
    "fear": ("being afraid", "worry"),
    "sadness": ("sorrow", "being unhappy"),
    "anger": ("rage", "being angry"),
    "annoyance": ("irritation", "frustration"),
    "gratitude": ("thanks", "thankfulness"),
    "admiration": ("praise", "compliment"),
    "curiosity": ("a question", "interest"),
    "surprise": ("astonishment", "being surprised"),
    "love": ("affection", "tenderness"),
    "disappointment": ("being let down", "complaint"),
    "optimism": ("hope", "being hopeful"),
    "amusement": ("something funny", "humor"),
    "remorse": ("apology", "regret"),
    "offensive language": ("insult", "vulgar language"),
    "hate speech": ("hateful", "abuse"),
    "neither hateful nor offensive": ("harmless", "not offensive"),
    "affected individuals": ("victims and missing people", "people hurt"),
    "infrastructure and utilities": ("damage to infrastructure", "disaster damage"),
    "donations and volunteering": ("help and donations", "relief effort"),
    "sympathy and support": ("condolences", "emotional support"),
    "caution and advice": ("warning", "safety advice"),
    "report lost card": ("lost or stolen card", "my card was lost"),
    "card declined": ("declined card payment", "payment does not work"),
    "account blocked": ("blocked account", "cannot access the account"),
    "weather": ("weather forecast", "get weather"),
    "play music": ("listen to a song", "music"),
    "restaurant reservation": ("book a restaurant", "reserve a table"),
}

POSITIVE = frozenset(
    ("admiration", "amusement", "approval", "caring", "desire", "excitement", "gratitude", "joy", "love", "optimism",
     "pride", "relief")
)  # fmt: skip
NEGATIVE = frozenset(
    ("anger", "annoyance", "disappointment", "disapproval", "disgust", "embarrassment", "fear", "grief",
     "nervousness", "remorse", "sadness")
)  # fmt: skip
STRONG = frozenset(("love", "excitement", "joy", "admiration", "anger", "disgust", "grief"))
GRADES = ("very negative", "negative", "neutral", "positive", "very positive")
# of the texts drawn; neutral least: it is what a model says anyway of a text unlike those it knows
GRADE_SHARES = {"very negative": 0.2, "negative": 0.26, "neutral": 0.12, "positive": 0.22, "very positive": 0.2}
IMPLIED: dict[str, dict[str, tuple[str, ...]]] = {
    "clinc150": {
        "negative": ("report fraud", "card declined", "damaged card", "lost luggage", "account blocked",
                     "report lost card", "jump start"),
        "positive": ("thank you",),
        "neutral": ("definition", "timezone", "calculator", "exchange rate", "plug type", "next holiday"),
    },
    "nlupp": {"negative": ("wrong notworking notshowing", "lost stolen"), "positive": ("thank",)},
    "crisislex_t26": {"negative": ("affected individuals", "infrastructure and utilities")},
}  # fmt: skip
GRADE_SYNONYMS: dict[str, tuple[str, ...]] = {
    "very negative": ("terrible", "very bad"),
    "negative": ("bad", "unfavorable", "dissatisfied", "unhappy"),
    "neutral": ("neutral", "factual", "mixed"),
    "positive": ("good", "favorable", "satisfied", "happy"),
    "very positive": ("excellent", "very good"),
}


def word_labels(random: Random, labels: Sequence[str], kind: str) -> tuple[str, ...]:
    """Word a list of labels one way: plain or by one template, now and then synonyms, now and then capitals."""
    worded = [_synonym(random, label, SYNONYMS, 0.25) for label in labels]
    if kind in TEMPLATES and random.random() > PLAIN_SHARE:
        template = random.choice(TEMPLATES[kind])
        worded = [template.format(label) for label in worded]
    return tuple(label.capitalize() for label in worded) if random.random() < CAPITAL_SHARE else tuple(worded)


def _synonym(random: Random, label: str, table: dict[str, tuple[str, ...]], share: float) -> str:
    return random.choice(table[label]) if label in table and random.random() < share else label


def _shuffled(random: Random, text: str, positives: Sequence[str], negatives: Sequence[str], kind: str) -> Example:
    pairs = [(label, True) for label in positives] + [(label, False) for label in negatives]
    random.shuffle(pairs)
    return Example(text, word_labels(random, [label for label, _ in pairs], kind), tuple(holds for _, holds in pairs))


class SetSource:
    """Draws from one labelled set; classes are drawn by the square root of their size, negatives from the set."""

    def __init__(self, labelled: LabelledSet, *, kind: str, weight: float, foreign: Sequence[str] = ()) -> None:
        self.weight = weight
        self._set = labelled
        self._kind = kind
        self._foreign = foreign
        by_class: dict[str, list[int]] = defaultdict(list)
        for row, labels in enumerate(labelled.labels):
            for label in labels or ("",):
                by_class[label].append(row)
        self._rows = list(by_class.values())
        self._sizes = [len(rows) ** 0.5 for rows in self._rows]

    def draw(self, random: Random, most: int) -> Example:
        row = random.choice(random.choices(self._rows, self._sizes)[0])
        positives = list(self._set.labels[row])
        others = [name for name in self._set.names if name not in positives]
        if random.random() < NEGATED_SHARE and (others or positives):
            return self._negated(random, self._set.texts[row], positives, others)
        count = min(len(others), random.randint(1, max(1, most - len(positives))))
        negatives = random.sample(others, count)
        if self._foreign and random.random() < 0.15:
            negatives += random.sample(self._foreign, min(2, len(self._foreign)))
        if len(negatives) > 1 and random.random() < NO_TRUE_LABEL_SHARE:
            positives = []
        return _shuffled(random, self._set.texts[row], positives, negatives, self._kind)

    def _negated(self, random: Random, text: str, positives: list[str], others: list[str]) -> Example:
        """A label beside its own negation: exactly one of the two holds."""
        name = random.choice(positives if positives and (not others or random.random() < 0.5) else others)
        holds = name in positives
        labels = word_labels(random, [name, f"not {name}"], "")
        return Example(text, labels, (holds, not holds))


class SentimentSource:
    """Texts by the mood they show, asked on a scale of two, three or five grades, worded one way or another.

    `rows` are (text, grade), grades as in GRADES; a scale without the text's own grade shows the nearest one.
    """

    def __init__(self, rows: Sequence[tuple[str, str]], *, weight: float) -> None:
        self.weight = weight
        self._rows: dict[str, list[str]] = defaultdict(list)
        for text, grade in rows:
            self._rows[grade].append(text)

    def draw(self, random: Random, most: int) -> Example:
        grades = [grade for grade in GRADES if self._rows[grade]]
        grade = random.choices(grades, [GRADE_SHARES[grade] for grade in grades])[0]
        text = random.choice(self._rows[grade])
        strong = grade.startswith("very ")
        if random.random() < (0.35 if strong else 0.05):
            scale: tuple[str, ...] = GRADES
        else:
            grade = grade.removeprefix("very ")
            three = grade == "neutral" or random.random() < 0.5
            scale = ("negative", "neutral", "positive") if three else ("negative", "positive")
        share = random.choices((0.0, 1.0), (0.7, 0.3))[0]  # all grades by synonyms, or none
        pairs = [(_synonym(random, name, GRADE_SYNONYMS, share), name == grade) for name in scale]
        random.shuffle(pairs)
        labels = word_labels(random, [label for label, _ in pairs], "sentiment")
        return Example(text, labels, tuple(holds for _, holds in pairs))


def emotions_as_sentiment(labelled: LabelledSet) -> list[tuple[str, str]]:
    """Emotion-labelled texts read as sentiment, by the emotion set's own grouping into positive and negative."""
    rows = []
    for text, labels in zip(labelled.texts, labelled.labels, strict=True):
        grade = _sentiment(set(labels))
        if grade in ("positive", "negative") and STRONG & set(labels):
            grade = f"very {grade}"
        if grade is not None:
            rows.append((text, grade))
    return rows


def implied_sentiment(labelled: LabelledSet) -> list[tuple[str, str]]:
    """Texts whose intent or event implies a mood that no word of theirs need show: a lost card, a flooded town."""
    moods = {name: mood for mood, names in IMPLIED.get(labelled.dataset, {}).items() for name in names}
    found = [
        (text, {moods[label] for label in labels if label in moods})
        for text, labels in zip(labelled.texts, labelled.labels, strict=True)
    ]
    return [(text, one.pop()) for text, one in found if len(one) == 1]


def _sentiment(labels: set[str]) -> str | None:
    """None where the emotions disagree or say nothing of the mood."""
    if labels == {"neutral"}:
        return "neutral"
    if labels & POSITIVE and not labels & NEGATIVE:
        return "positive"
    if labels & NEGATIVE and not labels & POSITIVE:
        return "negative"
    return None


class GlossSource:
    """Definitions with hypernyms and domains as labels; half of the negatives come from the same coarse domain."""

    def __init__(self, glosses: Sequence[Gloss], *, weight: float) -> None:
        self.weight = weight
        self._glosses = glosses
        by_domain: dict[int, list[Gloss]] = defaultdict(list)
        for gloss in glosses:
            by_domain[gloss.domain].append(gloss)
        self._by_domain = by_domain

    def draw(self, random: Random, most: int) -> Example:
        gloss = random.choice(self._glosses)
        positives = random.sample(gloss.positives, random.randint(1, min(3, len(gloss.positives))))
        words = {word for label in gloss.positives for word in label.split()}
        negatives: list[str] = []
        for _ in range(random.randint(1, max(1, most - len(positives)))):
            near = random.random() < 0.5
            other = random.choice(self._by_domain[gloss.domain] if near else self._glosses)
            label = random.choice(other.positives)
            # a label that shares a word with one that holds may well hold too
            if label not in negatives and words.isdisjoint(label.split()):
                negatives.append(label)
        if len(negatives) > 1 and random.random() < NO_TRUE_LABEL_SHARE:
            positives = []
        return _shuffled(random, gloss.text, positives, negatives, "topic")


# data sets the recipe knows: kind of wording and share of the mixture; all others share OTHER_WEIGHT
KNOWN: dict[str, tuple[str, float]] = {
    "clinc150": ("intent", 0.14),
    "nlupp": ("intent", 0.06),
    "goemotions": ("emotion", 0.11),
    "crisislex_t26": ("topic", 0.06),
    "hate_davidson": ("topic", 0.03),
}
SENTIMENT_WEIGHT, IMPLIED_WEIGHT, GLOSS_WEIGHT, OTHER_WEIGHT = 0.18, 0.05, 0.21, 1.0
WRITTEN_SENTIMENT_WEIGHT, WRITTEN_WEIGHT = 0.10, 0.09
NO_LABEL = frozenset(("not labeled", "not applicable"))  # bookkeeping of the data sets, not meaning


def build_sources(
    sets: Sequence[LabelledSet], glosses: Sequence[Gloss], written: Sequence[WrittenText] = ()
) -> list[Source]:
    """One source per data set, sentiment read from goemotions, and the glosses and written texts if there are any."""
    sources: list[Source] = [GlossSource(glosses, weight=GLOSS_WEIGHT)] if glosses else []
    if written:
        kinds = [Gloss(one.text, one.kind, domain=0) for one in written]
        topics = [Gloss(one.text, one.topic, domain=1) for one in written]
        sources.append(GlossSource(kinds + topics, weight=WRITTEN_WEIGHT))
        moods_written = [(one.text, one.sentiment) for one in written]
        sources.append(SentimentSource(moods_written, weight=WRITTEN_SENTIMENT_WEIGHT))
    moods: list[tuple[str, str]] = []
    names = sorted({name for one in sets for name in one.names} - NO_LABEL)
    for one in sets:
        kind, weight = KNOWN.get(one.dataset, ("", OTHER_WEIGHT))
        foreign = [name for name in names if name not in one.names] if one.dataset in KNOWN else []
        sources.append(SetSource(_without(one, NO_LABEL), kind=kind, weight=weight, foreign=foreign))
        moods += implied_sentiment(one)
        if one.dataset == "goemotions":
            sources.append(SentimentSource(emotions_as_sentiment(one), weight=SENTIMENT_WEIGHT))
    if moods:
        sources.append(SentimentSource(moods, weight=IMPLIED_WEIGHT))
    return sources


def _without(labelled: LabelledSet, names: frozenset[str]) -> LabelledSet:
    """Leave out rows whose only labels are `names`, and the names themselves."""
    kept = [
        (text, tuple(label for label in labels if label not in names))
        for text, labels in zip(labelled.texts, labelled.labels, strict=True)
        if not labels or set(labels) - names
    ]
    texts, labels = zip(*kept, strict=True)
    return LabelledSet(
        labelled.dataset, tuple(n for n in labelled.names if n not in names), texts, labels, labelled.multi
    )


def draw_examples(sources: Sequence[Source], random: Random, count: int, most: int) -> list[Example]:
    """Draw `count` examples with at most about `most` labels each, sources by weight."""
    weights = [source.weight for source in sources]
    return [source.draw(random, most) for source in random.choices(sources, weights, k=count)]
