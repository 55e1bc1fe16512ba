"""Names for clusters: the words that are frequent in one and rare in the others.

Enters: texts, the cluster of each. Leaves: terms of each cluster, the most salient first, and a name that no other
cluster has. Class-based tf-idf, as of BERTopic (Grootendorst 2022): the texts of a cluster count as one document.
Must not know: models but by their vectors, where texts come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

TERMS = 6  # of a cluster that are kept
CANDIDATES = 12  # salient terms of which the name is chosen
LEAST_TEXTS_OF_TERM = 2
LEAST_LIFT = 1.2  # how much more frequent than in all texts a term has to be in a cluster that it names
MOST_TERMS = 50_000
# a name also has to fit the cluster's texts in the model's eyes: what it weighs beside salience
FIT_WEIGHT = 2.0

WORD = re.compile(r"[^\W_]+")
# what a tokenizer leaves of don't, you've, she'll: stop words, too
REMNANTS = frozenset(
    ("ain", "aren", "couldn", "didn", "doesn", "don", "hadn", "hasn", "haven", "isn", "ll", "re", "shouldn", "ve",
     "wasn", "weren", "won", "wouldn")
)  # fmt: skip
# how mails begin and end: in every group, and the name of none
COURTESIES = frozenset(
    ("best", "cheers", "dear", "folks", "greetings", "guys", "hello", "hey", "hi", "kind", "kindly", "madam", "morning",
     "please", "regards", "sincerely", "sir", "team", "thank", "thanks", "yours")
)  # fmt: skip
NAMELESS = REMNANTS | COURTESIES

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def salient_terms(texts: Sequence[str], of_text: NDArray[np.int64]) -> list[list[tuple[str, float]]]:
    """Terms of one or two words of each cluster with their salience (1: the most salient one), falling.

    A cluster without words has none.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    least = LEAST_TEXTS_OF_TERM if len(texts) >= 10 * LEAST_TEXTS_OF_TERM else 1
    clusters = int(of_text.max()) + 1
    # binary: a signature repeated in a text counts once
    counter = CountVectorizer(analyzer=_terms, binary=True, min_df=least, max_features=MOST_TERMS)
    try:
        counted = counter.fit_transform(texts).tocsr()
    except ValueError:  # no word is left
        return [[] for _ in range(clusters)]
    terms = counter.get_feature_names_out()
    sums = np.stack([np.asarray(counted[of_text == one].sum(axis=0)).ravel() for one in range(clusters)])
    frequency = sums / sums.sum(axis=1, keepdims=True).clip(1)
    salience = frequency * np.log(1 + sums.sum() / clusters / sums.sum(axis=0).clip(1))  # (clusters, terms)
    share = sums / np.bincount(of_text, minlength=clusters)[:, None]
    salience[share < LEAST_LIFT * sums.sum(axis=0) / len(texts)] = 0.0
    found = []
    for row in salience:
        best = [int(i) for i in np.argsort(-row, kind="stable")[:CANDIDATES] if row[i] > 0]
        found.append([(str(terms[i]), float(row[i] / row[best[0]])) for i in best])
    return found


def _terms(text: str) -> Iterator[str]:
    """Words, and pairs of words that stand beside each other; none with a digit, for a name is no code."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    before = None
    for word in WORD.findall(text.lower()):
        if len(word) < 2 or not word.isalpha() or word in ENGLISH_STOP_WORDS or word in NAMELESS:
            before = None
            continue
        yield word
        if before is not None:
            yield f"{before} {word}"
        before = word


def choose_names(terms: Sequence[Sequence[tuple[str, float]]], middles: NDArray[np.float32], embed: Embed) -> list[str]:
    """A name for each cluster: the term that is salient, and near to the cluster's texts in the eyes of the model.

    middles (clusters, hidden) are unit vectors of the clusters; `embed` gives those of words. Names are unique.
    """
    words = sorted({term for one in terms for term, _ in one})
    vectors = dict(zip(words, embed(words), strict=True)) if words else {}
    names: list[str] = []
    for number, (candidates, middle) in enumerate(zip(terms, middles, strict=True), 1):
        worth = {term: salience + FIT_WEIGHT * float(vectors[term] @ middle) for term, salience in candidates}
        ranked = sorted(worth, key=lambda term: -worth[term])
        names.append(next(_unused(ranked, set(names)), f"group {number}"))
    return names


def _unused(ranked: Sequence[str], taken: set[str]) -> Iterator[str]:
    """Terms that no other cluster is called by, then pairs of them."""
    yield from (term for term in ranked if not any(set(term.split()) == set(name.split()) for name in taken))
    yield from (name for other in ranked[1:] if (name := f"{ranked[0]} {other}") not in taken)
