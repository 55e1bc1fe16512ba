"""`streamer classify`: label texts without Kafka.

Enters: a Classifier, labels from flags or settings, texts. Leaves: Verdicts, in order, and a table of one.
Must not know: which model it is given, files (see `offline_files.py`), Kafka.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.app import ACCELERATOR_WINDOW_RECORDS, CPU_WINDOW_RECORDS
from streamer.decide import decide
from streamer.engine.base import Classifier, Pending
from streamer.errors import UsageError
from streamer.facets import Kind, LabelSet
from streamer.records import Document, FacetVerdict, Reject, Scores, Verdict
from streamer.settings import Settings
from streamer.settings_errors import near, one_line
from streamer.settings_labels import FacetSettings, LabelSetSettings
from streamer.tables import batched

T = TypeVar("T")

WINDOWS_UNDER_WAY = 2  # one on the device, one behind it
WAIT_S = 1.0
FLAG_EXAMPLE = "--labels sentiment=negative,neutral,positive"
MULTI_FLAG_EXAMPLE = "--multi-labels topic=billing,outage"
SHOWN_LABELS = 12  # of a facet, in a table for people
BAR_WIDTH = 24


def label_set_from_flags(*, labels: Sequence[str], multi_labels: Sequence[str], threshold: float) -> LabelSet:
    """`facet=label,label` for facets of exactly one label and of any number, the latter by `threshold`.

    Raises UsageError, with an example, for what cannot be read so.
    """
    facets: dict[str, dict[str, Any]] = {}
    for kind, flags in ((Kind.SINGLE, labels), (Kind.MULTI, multi_labels)):
        for flag in flags:
            name, equals, names = flag.partition("=")
            if not (equals and name.strip()):
                raise UsageError(f"'{flag}': a facet's name and its labels are needed, e.g. {FLAG_EXAMPLE}")
            if name.strip() in facets:
                raise UsageError(f"'{flag}': facet '{name.strip()}' stands twice; give all its labels at once")
            given = [label.strip() for label in names.split(",") if label.strip()]
            if kind is Kind.SINGLE and len(given) < 2:
                raise UsageError(
                    f"'{flag}': two labels or more are needed to choose from, e.g. {FLAG_EXAMPLE}; "
                    f"for labels that hold each on their own use {MULTI_FLAG_EXAMPLE}"
                )
            facets[name.strip()] = {"kind": str(kind), "labels": given}
            if kind is Kind.MULTI:
                facets[name.strip()]["threshold"] = threshold
    if not facets:
        raise UsageError(f"no labels to choose from; give e.g. {FLAG_EXAMPLE}, or a settings file with -c")
    try:
        built = {name: FacetSettings.model_validate(facet) for name, facet in facets.items()}
    except ValidationError as error:
        raise UsageError(f"{one_line(error, FacetSettings)}; e.g. {FLAG_EXAMPLE}") from None
    return LabelSetSettings(facets=built, prompt=None).build("command line")


def label_set_from_settings(settings: Settings, name: str | None) -> LabelSet:
    """The label set of that name; without one, the only one. Raises UsageError where that leaves a doubt."""
    label_sets = settings.build_label_sets()
    known = ", ".join(label_sets)
    if name is None:
        if len(label_sets) > 1:
            raise UsageError(f"the settings have several label sets ({known}); say which one with --label-set")
        return next(iter(label_sets.values()))
    if name not in label_sets:
        raise UsageError(f"no label set '{name}'{near(name, label_sets)}; the settings have: {known}")
    return label_sets[name]


@dataclass(frozen=True, slots=True)
class _Window(Generic[T]):
    """Records of one submission, in order; `pending` is None when none of them is a document."""

    records: list[tuple[T, Document | Reject]]
    pending: Pending | None


def label_records(
    classifier: Classifier, records: Iterable[tuple[T, Document | Reject]]
) -> Iterator[tuple[T, Verdict | Reject]]:
    """The answer for every record, in order, each beside what came with it.

    Two windows are under way: the next one is read and queued before the last one is waited for.
    """
    size = CPU_WINDOW_RECORDS if classifier.describe().device == "cpu" else ACCELERATOR_WINDOW_RECORDS
    under_way: deque[_Window[T]] = deque()
    for window in batched(records, size):
        documents = [document for _, document in window if isinstance(document, Document)]
        under_way.append(_Window(window, classifier.submit(documents) if documents else None))
        if len(under_way) == WINDOWS_UNDER_WAY:
            yield from _answers(under_way.popleft())
    while under_way:
        yield from _answers(under_way.popleft())


def _answers(window: _Window[T]) -> Iterator[tuple[T, Verdict | Reject]]:
    result = None
    while window.pending is not None and result is None:
        result = window.pending.wait(WAIT_S)
    documents = [document for _, document in window.records if isinstance(document, Document)]
    scored = list(zip(documents, result.scores if result else (), strict=True))
    good = [(document, scores) for document, scores in scored if isinstance(scores, Scores)]
    verdicts = iter(decide([document for document, _ in good], [scores for _, scores in good]))
    answers = iter([next(verdicts) if isinstance(scores, Scores) else scores for _, scores in scored])
    for item, document in window.records:
        yield item, document if isinstance(document, Reject) else next(answers)


def classify_texts(classifier: Classifier, label_set: LabelSet, texts: Iterable[str]) -> list[Verdict | Reject]:
    """A Verdict for each text, or a Reject that says why there is none."""
    documents = (
        (None, Document(text, label_set) if text.strip() else Reject("empty_text", "the text is empty"))
        for text in texts
    )
    return [answer for _, answer in label_records(classifier, documents)]


def show_verdict(console: Console, text: str, verdict: Verdict | Reject) -> None:
    """One text's labels and scores as a table: the given labels bold, the best scores first."""
    if isinstance(verdict, Reject):
        console.print(Text(f"not labelled: {verdict.message} ({verdict.code})", style="red"))
        return
    table = Table(title=Text(text if len(text) <= 200 else f"{text[:199]}…"), title_justify="left")
    table.add_column("facet")
    table.add_column("label")
    table.add_column("score", justify="right")
    table.add_column("", width=BAR_WIDTH)
    for facet in verdict.facets:
        _add_facet(table, facet)
    console.print(table)
    if verdict.truncated:
        console.print("The text is longer than the model's window: its beginning was labelled.")


def _add_facet(table: Table, facet: FacetVerdict) -> None:
    ranked = sorted(facet.scores.items(), key=lambda item: -item[1])
    shown = [item for i, item in enumerate(ranked) if i < SHOWN_LABELS or item[0] in facet.labels]
    note = "abstained" if facet.abstained else "" if facet.labels else "none holds"
    for i, (label, score) in enumerate(shown):
        given = label in facet.labels
        # the facet's name stands once, what there is to say of it below
        first = Text(facet.name, style="bold") if i == 0 else Text(note if i == 1 else "", style="yellow")
        if i == 0 and note and len(shown) == 1:
            first.append(f" ({note})", style="yellow")
        name = Text(f"{'✓' if given else ' '} {label}", style="bold green" if given else "dim")
        table.add_row(
            first, name, f"{score:.3f}", Bar(1.0, 0.0, score, width=BAR_WIDTH, color="green" if given else "cyan")
        )
    if len(shown) < len(ranked):
        table.add_row("", Text(f"  and {len(ranked) - len(shown):,} more", style="dim"), "", "")
    table.add_section()
