"""`streamer labels suggest`: labels for texts that nobody has labelled yet.

Enters: a Sample of texts, an Embedder. Leaves: a Suggestion, as a table, as JSON, as a block for the settings. Seeded.
Must not know: Kafka, files, which model it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.engine.base import Embedder
from streamer.labels.cluster import cluster_texts, counts_to_try, unit
from streamer.labels.naming import TERMS, choose_names, salient_terms
from streamer.labels.texts import Sample
from streamer.terminal import Advance, printable, progress_bar

READ_TOKENS = 128  # of a text: what it is about is said early, and every token costs time
WINDOW_TEXTS = 64
EXAMPLES = 3
EXAMPLE_CHARACTERS = 160
LOOSE = 0.05  # silhouette below which clusters run into each other


@dataclass(frozen=True, slots=True)
class SuggestedLabel:
    """A label, its salient terms, how many of the sampled texts it would have, and the most typical ones."""

    name: str
    terms: tuple[str, ...]
    texts: int
    share: float
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`labels` by falling number of texts. `silhouette`: 1 where clusters lie apart, 0 where they run together."""

    labels: tuple[SuggestedLabel, ...]
    texts: int
    rows: int
    silhouette: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def suggest(
    sample: Sample, embedder: Embedder, *, count: int | None, most: int, seed: int, console: Console
) -> Suggestion:
    """Embed, cluster, name. `count` None: as many labels as the texts speak for, `most` at most.

    `console` shows progress when it is a terminal. Raises UsageError for too few texts.
    """
    texts = sample.texts
    with progress_bar(console, "embedding", len(texts)) as advance:
        vectors = embed_texts(texts, embedder, advance)
    tries = 1 if count is not None else len(counts_to_try(len(texts), most))
    with progress_bar(console, "grouping", tries) as advance:
        found = cluster_texts(texts, vectors, count=count, most=most, seed=seed, advance=advance)
    terms = salient_terms(texts, found.of_text)
    middles = _middles(vectors, found.of_text)
    names = choose_names(terms, middles, lambda words: embedder.embed(words, most_tokens=embedder.label_tokens))
    labels = []
    for number, name in enumerate(names):
        own = np.nonzero(found.of_text == number)[0]
        typical = own[np.argsort(-found.nearness[own], kind="stable")].tolist()
        labels.append(
            SuggestedLabel(
                name=name,
                terms=tuple(term for term, _ in terms[number][:TERMS]),
                texts=len(own),
                share=round(len(own) / len(texts), 4),
                examples=_examples([texts[at] for at in typical]),
            )
        )
    return Suggestion(tuple(labels), len(texts), sample.rows, round(found.silhouette, 4))


def embed_texts(texts: Sequence[str], embedder: Embedder, advance: Advance) -> NDArray[np.float32]:
    """Unit vectors (texts, hidden) of the beginnings of texts; `advance` is told of every text."""
    windows = []
    for start in range(0, len(texts), WINDOW_TEXTS):
        window = texts[start : start + WINDOW_TEXTS]
        windows.append(embedder.embed(window, most_tokens=READ_TOKENS))
        advance(len(window))
    return np.concatenate(windows)


def _middles(vectors: NDArray[np.float32], of_text: NDArray[np.int64]) -> NDArray[np.float32]:
    """Unit vectors (clusters, hidden)."""
    return unit(np.stack([vectors[of_text == one].mean(axis=0) for one in range(int(of_text.max()) + 1)]))


def _examples(texts: Sequence[str]) -> tuple[str, ...]:
    """The first few that differ, each on one line."""
    shown = dict.fromkeys(printable(" ".join(text.split()), EXAMPLE_CHARACTERS) for text in texts[: 20 * EXAMPLES])
    return tuple(shown)[:EXAMPLES]


def show_suggestion(console: Console, found: Suggestion) -> None:
    """A table, the largest label first, and what to make of it."""
    table = Table(header_style="bold")
    table.add_column("label", overflow="fold")
    table.add_column("texts", justify="right")
    table.add_column("share", justify="right")
    table.add_column("salient terms", overflow="fold")
    table.add_column("examples", overflow="fold", ratio=1)
    for label in found.labels:
        table.add_row(
            Text(label.name, style="bold"),
            f"{label.texts:,}",
            f"{100 * label.share:.1f} %",
            Text(", ".join(label.terms)),
            Text("\n".join(label.examples)),
        )
    console.print(table)
    sampled = "" if found.texts == found.rows else f" (a sample of {found.rows:,} rows)"
    console.print(
        Text(f"{len(found.labels)} labels from {found.texts:,} texts{sampled}; silhouette {found.silhouette}")
    )
    if found.silhouette < LOOSE:
        console.print(Text("The texts run into each other: take the labels as hints, and try other numbers (--count)."))
    console.print(Text("Reword, merge and drop as you see fit; then: streamer check -c FILE --texts TEXTS"))


def settings_block(found: Suggestion) -> str:
    """The labels as a `label_sets` block of a settings file (YAML), counts and terms as comments."""
    lines = ["label_sets:", "  suggested:", "    facets:", "      topic:", "        kind: single", "        labels:"]
    for label in found.labels:
        about = f"{label.texts} texts: {', '.join(label.terms)}"
        # a JSON string is a YAML string that needs no further care; terms hold letters and blanks alone
        lines.append(f"          - {orjson.dumps(label.name).decode()}  # {about}")
    return "\n".join(lines) + "\n"
