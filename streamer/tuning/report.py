"""The report of an evaluation: report.md, result.json and pictures in a folder.

Enters: a RecordsEvaluation. Leaves: files. Names and texts of others are escaped, so that no label and no record can
write Markdown or HTML. Must not know: how anything was measured, how pictures are drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import orjson

from streamer.errors import UsageError
from streamer.terminal import printable
from streamer.tuning.evaluate_result import Comparison, FacetResult, Mistake, RecordsEvaluation, Side
from streamer.tuning.evaluate_words import (
    LABEL_HEADINGS,
    average_rows,
    coverage_rows,
    difference_rows,
    facet_head,
    given,
    head,
    label_rows,
    name,
    remarks,
    sides,
    summary_rows,
    verdict,
    worst_confusions,
)
from streamer.tuning.pictures import confusion_picture, scores_picture

REPORT, RESULT = "report.md", "result.json"
MOST_CONFUSIONS = 20
TEXT_CHARACTERS = 160
_MEANS_SOMETHING = re.compile(r"([\\`*_\[\]|~])")  # inside a line; no text of others begins one

Pictures = dict[str, str]  # file name -> SVG


def require_report_folder(folder: Path) -> None:
    """Raise UsageError unless a report can be written there without mixing with other files."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; --report takes a folder")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: is not empty; --report takes a new folder")
    if not folder.exists() and not folder.parent.is_dir():
        raise UsageError(f"{folder}: no such folder as {folder.parent}; make it first")


def write_report(folder: Path, result: RecordsEvaluation) -> None:
    """Write the files; raises UsageError where that cannot be done."""
    files: dict[str, str] = {}
    for number, facet in enumerate(result.facets, 1):
        files |= _pictures(number, facet)
    files[REPORT] = markdown(result)
    files[RESULT] = orjson.dumps(result.as_dict(), option=orjson.OPT_INDENT_2).decode() + "\n"
    try:
        folder.mkdir(exist_ok=True)
        for file, content in files.items():
            (folder / file).write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror})") from None


def _pictures(number: int, facet: FacetResult) -> Pictures:
    scores, confusion = _picture_names(number, facet)
    return {scores: scores_picture(facet), confusion: confusion_picture(facet)}


def _picture_names(number: int, facet: FacetResult) -> tuple[str, str]:
    """Numbered, for two names may come out as one."""
    slug = re.sub(r"[^a-z0-9]+", "-", facet.facet.lower()).strip("-")[:40]
    stem = f"{number}-{slug}" if slug else str(number)
    return f"{stem}-scores.svg", f"{stem}-confusion.svg"


def markdown(result: RecordsEvaluation) -> str:
    """The report as Markdown, pictures by their names."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: RecordsEvaluation) -> Iterator[str]:
    yield from ("# Evaluation", "", escaped(head(result)) + ".", "")
    for remark in remarks(result):
        yield from (f"- {escaped(remark)}", "")
    if result.comparison is not None:
        yield from _comparison(result.comparison, result.side)
    for number, facet in enumerate(result.facets, 1):
        yield from _facet(number, facet)
    yield "## How to read this"
    yield ""
    yield (
        f"Intervals hold 95 % of {result.resamples:,} bootstrap resamples of the records (seed {result.seed}). A label "
        "is given as an event would hold it: after calibration, thresholds and abstention; an abstained record was "
        "given none, and counts as wrong. Accuracy: exactly the right labels. Macro: the plain mean over labels that "
        "are right or given at least once. ECE: distance between score and share that is right, in 10 bins of equally "
        "many records. Brier score: mean squared distance of scores from 0 and 1, summed over the labels of a single "
        "facet (0..2), averaged over those of a multi facet (0..1)."
    )


def _facet(number: int, facet: FacetResult) -> Iterator[str]:
    yield from (f"## {escaped(facet_head(facet))}", "")
    yield from _table(("figure", "value", "95 %"), summary_rows(facet))
    scores, confusion = _picture_names(number, facet)
    yield from (f"![Reliability, and accuracy by share answered]({scores})", "")
    yield from ("### Labels", "")
    headings = LABEL_HEADINGS + (() if facet.mean_average_precision is None else ("AP",))
    averages = ((f"*{row[0]}*", *row[1:]) for row in average_rows(facet))
    yield from _table(headings, [*map(_escaped_row, label_rows(facet)), *averages], safe=True)
    yield from ("### Mistakes", "")
    confused = worst_confusions(facet, MOST_CONFUSIONS)
    yield from _table(("right", "given", "records"), ((name(x.right), given(x), f"{x.records:,}") for x in confused))
    yield from (f"![What is right, and what was given]({confusion})", "")
    if facet.mistakes:
        yield from ("Wrong answers with the highest scores:", "")
        yield from _table(("row", "text", "right", "given", "score"), map(_mistake, facet.mistakes))
    yield from ("### Abstention", "", "What a setting would bring, each alone and in place of those now:", "")
    yield from _table(("setting", "at", "answered", "accuracy of answers"), coverage_rows(facet))


def _mistake(one: Mistake) -> tuple[str, ...]:
    row = f"{one.row:,}" if one.id is None else f"{one.row:,} ({name(one.id)})"
    labels = (", ".join(name(label) for label in names) or "(no label)" for names in (one.right, one.given))
    return (row, printable(" ".join(one.text.split()), TEXT_CHARACTERS), *labels, f"{one.score:.3f}")


def _comparison(comparison: Comparison, new: Side) -> Iterator[str]:
    yield from ("## Comparison", "")
    yield from (f"- {escaped(line)}" for line in sides(comparison, new))
    yield ""
    for one in comparison.facets:
        yield from (f"### {escaped(name(one.facet))}", "")
        for line in verdict(one):
            yield from (f"**{escaped(line)}**", "")
        headings = ("figure", "old", "new", "change", "95 % of the change", "real")
        yield from _table(headings, difference_rows(one.differences))
        labels = ((f"F1 of {name(row[0])}", *row[1:]) for row in difference_rows(one.labels))
        yield from _table(headings, labels)
        yield from ("Each line is judged alone: of twenty that differ by chance only, one is told as real.", "")
    for facet in comparison.left_out:
        yield from (f"Facet {escaped(name(facet))} is not in both with the same labels, and was not compared.", "")


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, safe: bool = False) -> Iterator[str]:
    """`safe`: the cells are escaped already."""
    cells = list(rows) if safe else [_escaped_row(row) for row in rows]
    if not cells:
        yield from ("none", "")
        return
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    yield from (f"| {' | '.join(row)} |" for row in cells)
    yield ""


def _escaped_row(row: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(escaped, row))


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, addresses no links."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("://", "&#58;//")
    return _MEANS_SOMETHING.sub(r"\\\1", plain)
