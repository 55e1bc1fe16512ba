"""What the benchmark labels: tickets and posts put together from a small stock of sentences, and the labels asked for.

Enters: how many, and a seed. Leaves: texts of 20 to 80 tokens, the same for the same seed, and a label set of three
facets with 4, 12 and 8 labels. Must not know: models, Kafka.
"""

from __future__ import annotations

import random
import re
import string

from streamer.facets import Facet, Kind, Label, LabelSet

FEWEST_TOKENS, MOST_TOKENS = 20, 80

_TOKEN = re.compile(r"\w+|[^\w\s]")  # what a BERT tokenizer takes for a word or a sign

_SENTENCES = (
    "My {thing} {trouble} {when}.",
    "I was charged twice for the {thing}, and nobody answers the phone!",
    "Could you tell me whether the {thing} will be {done} soon?",
    "We asked for the {thing} {when}; please send it or return our money.",
    "The new {thing} is {praise}, thank you so much.",
    "Just read that the {thing} {trouble} again. What a surprise...",
    "Please cancel my order of the {thing} and confirm by mail.",
    "The {people} said it would be {done} {when}, but it {trouble} all the same.",
    "Traffic stood still near the {place} {when}, so leave the car at home.",
    "What a match at the {place}: the {people} were {praise} until the last minute.",
    "Rain and wind over the {place} {when}: the {people} asked everyone to stay inside.",
    "It would be great if the {thing} could be {done} from the phone as well.",
    "Does anybody else find that the {thing} {trouble}, or is it only me?",
    "Dinner with the {people} at the {place} was {praise}.",
    "They showed the next {thing} {when}, and I can hardly wait.",
    "No answer to my letter, no refund, no {thing}: I am done with you.",
)
_WORDS = {
    "thing": ("invoice", "parcel", "laptop", "account", "update", "ticket", "contract", "router", "coffee machine"),
    "trouble": ("does not work", "broke down", "was lost", "shows the wrong price", "keeps asking for a password"),
    "when": ("today", "last Monday", "this morning", "in the evening", "three weeks ago", "at the weekend"),
    "done": ("delivered", "repaired", "paid", "changed", "ready"),
    "praise": ("excellent", "friendly and quick", "better than ever", "a joy", "simply wonderful"),
    "people": ("support team", "neighbours", "players", "drivers", "city council"),
    "place": ("central station", "old harbour", "town hall", "stadium", "airport"),
}
_FACETS = (
    ("sentiment", Kind.SINGLE, "negative, neutral, positive, mixed"),
    (
        "topic",
        Kind.MULTI,
        "billing, delivery, account access, defective product, service outage, feature request,"
        " sports, technology, politics, travel, food, weather",
    ),
    (
        "event_type",
        Kind.SINGLE,
        "question, complaint, refund request, cancellation request,"
        " praise, product launch, transport disruption, everyday life",
    ),
)


def tokens_of(text: str) -> list[str]:
    """Words and signs of a text, lower-cased."""
    return _TOKEN.findall(text.lower())


def bench_texts(count: int, seed: int) -> list[str]:
    """`count` texts of 20 to 80 words and signs, their lengths spread evenly."""
    chance = random.Random(seed)
    return [_text(chance, chance.randint(FEWEST_TOKENS, MOST_TOKENS)) for _ in range(count)]


def bench_texts_of(tokens: int, count: int, seed: int) -> list[str]:
    """`count` texts of exactly `tokens` words and signs."""
    chance = random.Random(seed)
    return [_text(chance, tokens) for _ in range(count)]


def _text(chance: random.Random, tokens: int) -> str:
    """Sentences, the last one broken off where there are enough tokens."""
    text = ""
    while len(found := list(_TOKEN.finditer(text))) < tokens:
        words = {slot: chance.choice(choice) for slot, choice in _WORDS.items()}
        text += (" " if text else "") + chance.choice(_SENTENCES).format(**words)
    return text[: found[tokens - 1].end()]


def bench_labels() -> LabelSet:
    """Sentiment (4 labels), topic (12, any number holds) and event type (8)."""
    facets = (
        Facet(name, kind, tuple(Label(label.strip()) for label in labels.split(","))) for name, kind, labels in _FACETS
    )
    return LabelSet("bench", tuple(facets))


def bench_labels_of(count: int) -> LabelSet:
    """One facet of `count` labels, any number of which may hold; two words each, no two alike. Raises ValueError where
    there are not so many."""
    words = [word.strip() for _, _, labels in _FACETS for word in labels.split(",") if " " not in word.strip()]
    pairs = [f"{first} {second}" for first in words for second in words if first != second]
    if count > len(pairs):
        raise ValueError(f"{count} labels: there are {len(pairs)}")
    chosen = random.Random(0).sample(pairs, len(pairs))[:count]
    return LabelSet(f"{count} labels", (Facet("topic", Kind.MULTI, tuple(map(Label, chosen))),))


def bench_vocabulary() -> list[str]:
    """Every word and sign that a text or a label here can hold, and what any other text can be spelled with."""
    stock = (*_SENTENCES, *(word for words in _WORDS.values() for word in words), *(facet[2] for facet in _FACETS))
    spelled = [
        *string.ascii_lowercase,
        *string.digits,
        *string.punctuation,
        *(f"##{sign}" for sign in string.ascii_lowercase + string.digits),
    ]
    return list(dict.fromkeys([*spelled, *sorted({token for text in stock for token in tokens_of(text)})]))
