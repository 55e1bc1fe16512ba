"""Texts that belong together.

Enters: texts and the model's vectors of them. Leaves: a Clustering. Seeded: the same texts always fall the same way.
Must not know: where texts come from, what clusters are called.

A text is described twice: by the model's vector, which knows what words mean, and by its salient words (tf-idf, reduced
to a few dimensions), which part texts about things that the model has no notion of. Each is reduced and set to unit
length, so that their weight is what the constant says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.errors import UsageError

FEWEST_TEXTS = 10
MODEL_DIMENSIONS, WORD_DIMENSIONS = 48, 64
# tried on the validation sets and clinc150: more helps news and software (topics have words of their own), and harms
# short requests to an assistant (where the model knows better)
WORD_WEIGHT = 0.7
LEAST_TEXTS_OF_WORD = 3
COMMON_WORD = 0.3  # share of the texts from which a word tells nothing
MOST_WORDS = 20_000
COUNTS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 30, 40, 50, 60)
TEXTS_OF_CLUSTER = 8  # at least, on average, where the number is looked for
# finer clusters are merged by a glance, coarse ones are parted by nobody: take the finest that is nearly the best
NEARLY_BEST = 0.95
# texts without clear groups part best in two, whatever they are about: so few are believed only where the silhouette
# speaks of substance (Kaufman and Rousseeuw 1990: above 0.25)
FEW_CLUSTERS, SUBSTANCE = 3, 0.25
SILHOUETTE_TEXTS = 2_000  # all pairs of them are compared
TRIES = 4  # beginnings of k-means, the best of which counts


@dataclass(frozen=True, slots=True)
class Clustering:
    """`of_text` (texts,) is the cluster of each text, by falling size; `nearness` (texts,) how near it is to its
    cluster's middle, 1 at most; `silhouette` of the whole, from -1 to 1."""

    of_text: NDArray[np.int64]
    nearness: NDArray[np.float64]
    silhouette: float


def cluster_texts(
    texts: Sequence[str],
    vectors: NDArray[np.float32],
    *,
    count: int | None,
    most: int,
    seed: int,
    advance: Callable[[int], None],
) -> Clustering:
    """Part texts into `count` clusters, or into as many as the silhouette speaks for, `most` at most.

    vectors (texts, hidden) are the model's. `advance` is told of each number that was tried. Raises UsageError for
    too few texts.
    """
    if len(texts) < max(FEWEST_TEXTS, count or 0):
        raise UsageError(f"{len(texts)} texts are too few to find {count or 'any'} groups in; give more")
    from sklearn.metrics import silhouette_score

    points = _describe(texts, vectors, seed)
    some = np.random.default_rng(seed).permutation(len(points))[:SILHOUETTE_TEXTS]

    def silhouette(of_text: NDArray[np.int64]) -> float:
        kinds = len(np.unique(of_text[some]))
        return float(silhouette_score(points[some], of_text[some])) if 1 < kinds < len(some) else -1.0

    found: list[tuple[float, NDArray[np.int64]]] = []
    for clusters in counts_to_try(len(texts), most) if count is None else [count]:
        of_text = _k_means(points, clusters, seed)
        found.append((silhouette(of_text), of_text))
        advance(1)
    found = [one for one in found if one[1].max() >= FEW_CLUSTERS or one[0] >= SUBSTANCE] or found
    best = max(value for value, _ in found)
    value, of_text = [one for one in found if one[0] >= best - (1 - NEARLY_BEST) * abs(best)][-1]
    return _by_size(points, of_text, value)


def counts_to_try(texts: int, most: int) -> list[int]:
    """Numbers of clusters that make sense for so many texts."""
    return [count for count in COUNTS if count <= most and count * TEXTS_OF_CLUSTER <= texts] or [2]


def _describe(texts: Sequence[str], vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Points (texts, dimensions) whose distances tell how different texts are."""
    from sklearn.decomposition import PCA, TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    dimensions = min(MODEL_DIMENSIONS, len(texts) - 1, vectors.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):  # of texts that are all the same
        parts = [unit(PCA(dimensions, random_state=seed).fit_transform(vectors))]
    least = LEAST_TEXTS_OF_WORD if len(texts) >= 10 * LEAST_TEXTS_OF_WORD else 1
    words = TfidfVectorizer(
        stop_words="english", sublinear_tf=True, min_df=least, max_df=COMMON_WORD, max_features=MOST_WORDS
    )
    try:
        counted = words.fit_transform(texts)
    except ValueError:  # no word is left: numbers, one text over and over, a writing without blanks
        return parts[0]
    if counted.shape[1] > 1:
        reduced = TruncatedSVD(min(WORD_DIMENSIONS, counted.shape[1] - 1), random_state=seed).fit_transform(counted)
        parts.append(WORD_WEIGHT * unit(reduced))
    return np.hstack(parts).astype(np.float32)


def unit(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points (texts, dimensions) moved to length 1."""
    lengths: NDArray[np.float32] = np.linalg.norm(points, axis=1, keepdims=True).clip(1e-9)
    return points / lengths


def _k_means(points: NDArray[np.float32], clusters: int, seed: int) -> NDArray[np.int64]:
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different texts than clusters: some stay empty
        found: NDArray[np.int64] = KMeans(clusters, n_init=TRIES, random_state=seed).fit_predict(points)
    return found


def _by_size(points: NDArray[np.float32], of_text: NDArray[np.int64], silhouette: float) -> Clustering:
    kinds, sizes = np.unique(of_text, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    rank = np.zeros(kinds.max() + 1, dtype=np.int64)
    rank[kinds[order]] = np.arange(len(kinds))
    ranked = rank[of_text]
    middles = unit(np.stack([points[ranked == one].mean(axis=0) for one in range(len(kinds))]))
    nearness = (unit(points) * middles[ranked]).sum(axis=1).astype(np.float64)
    return Clustering(ranked, nearness, silhouette)
