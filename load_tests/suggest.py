"""Whether `streamer labels suggest` finds the groups that people made: `python -m load_tests.suggest CORPUS`.

CORPUS is a parquet file with the columns dataset, split, text and labels. For each data set, up to --texts texts that
have exactly one label are clustered as the command does it, once into as many groups as it chooses by itself, once into
as many as there are labels; the labels are looked at only afterwards. Reported: normalised mutual information (NMI) and
adjusted Rand index (ARI), 1 where the groups are the labels, and the suggested names. Prints one line of JSON a set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Annotated

import orjson
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from rich.console import Console
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from load_tests.harness import LoadTestError, exit_with
from streamer.app import build_embedder
from streamer.engine.base import Embedder
from streamer.labels.cluster import cluster_texts
from streamer.labels.suggest import embed_texts, suggest
from streamer.labels.texts import Sample
from streamer.settings import build_model_settings

# the first three decided how texts are described; nothing was chosen by the others
SETS = ("bbc_news/validation", "stackoverflow20/validation", "clinc150/train", "banking77/benchmark_test")
MOST_LABELS = 60
SEED = 1


@dataclass(frozen=True, slots=True)
class Agreement:
    """Groups against labels. `chosen`: groups that the command makes by itself; `names`: what it calls them."""

    data_set: str
    texts: int
    labels: int
    chosen: int
    nmi_chosen: float
    ari_chosen: float
    nmi_given: float
    ari_given: float
    wall_s: float
    names: tuple[str, ...]


def read_set(corpus: Path, name: str, most: int) -> tuple[list[str], list[str]]:
    """Texts with their one label, drawn at random."""
    data_set, _, split = name.partition("/")
    wanted = (pc.field("dataset") == data_set) & (pc.field("split") == split)
    rows = pq.read_table(corpus, columns=["text", "labels"], filters=wanted).to_pylist()
    pairs = [(row["text"], row["labels"][0]) for row in rows if len(row["labels"]) == 1]
    if not pairs:
        raise LoadTestError(f"{corpus} has no texts of {name}")
    chosen = Random(SEED).sample(pairs, min(most, len(pairs)))
    return [text for text, _ in chosen], [label for _, label in chosen]


def measure(name: str, texts: list[str], labels: list[str], embedder: Embedder) -> Agreement:
    """Cluster, then compare."""
    began_s = perf_counter()
    vectors = embed_texts(texts, embedder, lambda _: None)
    kinds = len(set(labels))

    def agreement(count: int | None) -> tuple[float, float, int]:
        found = cluster_texts(texts, vectors, count=count, most=MOST_LABELS, seed=SEED, advance=lambda _: None).of_text
        nmi = float(normalized_mutual_info_score(labels, found))
        return round(nmi, 3), round(float(adjusted_rand_score(labels, found)), 3), int(found.max()) + 1

    nmi_given, ari_given, _ = agreement(kinds)
    nmi_chosen, ari_chosen, chosen = agreement(None)
    wall_s = round(perf_counter() - began_s, 1)
    sample = Sample(tuple(texts), len(texts), 0)
    named = suggest(sample, embedder, count=chosen, most=MOST_LABELS, seed=SEED, console=Console(quiet=True))
    return Agreement(
        data_set=name,
        texts=len(texts),
        labels=kinds,
        chosen=chosen,
        nmi_chosen=nmi_chosen,
        ari_chosen=ari_chosen,
        nmi_given=nmi_given,
        ari_given=ari_given,
        wall_s=wall_s,
        names=tuple(label.name for label in named.labels),
    )


def measure_all(corpus: Path, names: list[str], most: int) -> Iterator[Agreement]:
    """One set after the other."""
    embedder = build_embedder(build_model_settings({"name": "bundled"}))
    if embedder is None:
        raise LoadTestError("the bundled model makes no vectors")
    for name in names:
        yield measure(name, *read_set(corpus, name, most), embedder)


def main(
    corpus: Annotated[Path, typer.Argument(help="Parquet file of labelled texts.")],
    only: Annotated[list[str] | None, typer.Option("--set", help="DATASET/SPLIT; may be repeated.")] = None,
    texts: Annotated[int, typer.Option(min=100, help="Of each set, at most.")] = 3000,
) -> None:
    """Compare suggested groups with labels."""

    def test() -> bool:
        for found in measure_all(corpus, list(only or SETS), texts):
            print(orjson.dumps(asdict(found)).decode(), flush=True)
        return True

    exit_with(test)


if __name__ == "__main__":
    typer.run(main)
