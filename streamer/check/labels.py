"""What `streamer check` says of labels: by their names, by the model's own vectors, by the model's answers to texts.

Enters: a LabelSet, a model, perhaps a file of texts. Leaves: Findings, warnings all of them. Must not know: topics of
a cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from streamer.check.findings import Finding, ok, warning
from streamer.engine.base import Classifier, Embedder
from streamer.facets import Facet, Kind, LabelSet
from streamer.labels.hygiene import indistinct_labels, near_wordings
from streamer.labels.texts import Sample, sample_texts, texts_in_columns, texts_of_stream
from streamer.labels.wording import Remark, long_wordings, same_names, shown, wording_tips
from streamer.offline import label_records
from streamer.records import Document, Verdict
from streamer.settings import Settings
from streamer.tables import count_rows, require_readable
from streamer.terminal import progress_bar

MANY_LABELS = 50
MOST_TEXTS = 1_000  # are scored: enough to see what is common, done in seconds
SEED = 1


@dataclass(frozen=True, slots=True)
class Texts:
    """A file of texts to try the labels on; `console` shows progress when it is a terminal."""

    path: Path
    console: Console

    def sample(self, settings: Settings, label_set: LabelSet) -> Sample:
        """Texts as the first stream with this label set finds them. Raises UsageError where there are none."""
        streams = [stream for stream in settings.build_streams() if stream.label_set == label_set.name]
        find = texts_of_stream(self.path, streams[0]) if streams else texts_in_columns(self.path, [])
        with progress_bar(self.console, "reading", count_rows(self.path)) as advance:
            return sample_texts(self.path, find, most=MOST_TEXTS, seed=SEED, advance=advance)


def open_texts(path: Path, console: Console) -> Texts:
    """A file for `check --texts`; raises UsageError for one that cannot be read."""
    require_readable(path)
    return Texts(path, console)


def check_names(label_set: LabelSet) -> Iterator[Finding]:
    """What needs no model."""
    for where, facet in _places(label_set):
        yield from _warnings(where, same_names(facet))
        yield from _warnings(where, wording_tips(facet))
        if facet.kind is Kind.SINGLE and len(facet.labels) > MANY_LABELS:
            what = f"{len(facet.labels)} labels compete for each record: scores are low, and margins small"
            yield warning(where, what, "consider several facets, or multi with a threshold")


def check_labels(
    settings: Settings,
    label_set: LabelSet,
    *,
    classifier: Classifier,
    embedder: Embedder | None,
    texts: Texts | None,
) -> Iterator[Finding]:
    """What the model says of its labels. Raises UsageError for texts that cannot be read."""
    for where, facet in _places(label_set):
        if embedder is None:
            yield from _warnings(where, long_wordings(facet))
        else:
            yield from _warnings(where, _cut_wordings(facet, embedder))
            wordings = [label.wording for label in facet.labels]
            vectors = embedder.embed(wordings, most_tokens=embedder.label_tokens)
            yield from _warnings(where, near_wordings(facet, vectors))
    if texts is not None:
        yield from _check_on_texts(label_set, classifier, texts.sample(settings, label_set), texts.console)


def _cut_wordings(facet: Facet, embedder: Embedder) -> Iterator[Remark]:
    cuts = embedder.cuts([label.wording for label in facet.labels])
    names = [label.name for label, cut in zip(facet.labels, cuts, strict=True) if cut]
    if names:
        yield Remark(
            f"{shown(names)}: longer than the {embedder.label_tokens} tokens that the model reads of a label",
            "say it in fewer words; what comes last is not read",
        )


def _check_on_texts(label_set: LabelSet, classifier: Classifier, sample: Sample, console: Console) -> Iterator[Finding]:
    scored = _score(label_set, classifier, sample.texts, console)
    where = f"label_sets.{label_set.name}"
    yield ok(where, f"labels tried on {len(scored):,} texts of {sample.rows:,} rows")
    texts = [text for text, _ in scored]
    for index, (place, facet) in enumerate(_places(label_set)):
        names = [label.name for label in facet.labels]
        rows = [[verdict.facets[index].scores[name] for name in names] for _, verdict in scored]
        scores: NDArray[np.float64] = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
        if len(scores):
            yield from _warnings(place, indistinct_labels(facet, scores, texts))


def _score(
    label_set: LabelSet, classifier: Classifier, texts: Sequence[str], console: Console
) -> list[tuple[str, Verdict]]:
    """The texts that can be scored, with their verdicts, scored by the road's own code."""
    scored = []
    with progress_bar(console, f"trying labels of {label_set.name}", len(texts)) as advance:
        for text, answer in label_records(classifier, ((text, Document(text, label_set)) for text in texts)):
            advance(1)
            if isinstance(answer, Verdict):
                scored.append((text, answer))
    return scored


def _places(label_set: LabelSet) -> list[tuple[str, Facet]]:
    return [(f"label_sets.{label_set.name}.facets.{facet.name}", facet) for facet in label_set.facets]


def _warnings(where: str, remarks: Iterable[Remark]) -> Iterator[Finding]:
    for remark in remarks:
        yield warning(where, remark.what, remark.advice)
