"""The report: every file is there and well formed, and no name or text can write Markdown, HTML or terminal codes."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from streamer.errors import UsageError
from streamer.facets import Facet, Kind, Label
from streamer.tuning.compare import compare_facet
from streamer.tuning.evaluate_answers import answer
from streamer.tuning.evaluate_facet import evaluate_facet
from streamer.tuning.evaluate_result import Comparison, RecordsEvaluation, Side
from streamer.tuning.evaluate_show import show_records
from streamer.tuning.labelled import LabelledRecords
from streamer.tuning.pictures import MOST_LABELS, confusion_picture, scores_picture
from streamer.tuning.report import RESULT, markdown, require_report_folder, write_report
from tests.tuning.planted import planted, records_of, scored

NASTY = "[red]<script>|`*\x1b[31m\u202e&\"'\n## head"
SIDE = Side("new.yaml", "tickets", "0123456789abcdef", None, "fake", "none")


def nasty_facet(kind: Kind) -> Facet:
    names = tuple(Label(f"{i}{NASTY}") for i in range(5))
    return Facet(f"{kind}{NASTY}", kind, (*names, Label("never")), 0.5, 0.0, 0.05)


def result(*, compared: bool = True) -> RecordsEvaluation:
    facets, comparisons = [], []
    for kind in Kind:
        new = answer(replace(scored(kind, signal=3.0), facet=nasty_facet(kind)))
        old = answer(replace(scored(kind, signal=1.0), facet=nasty_facet(kind)))
        right = records_of(new).right
        records = LabelledRecords(tuple(f"{NASTY} http://evil.example/{i}" for i in range(400)), right, (NASTY,) * 400)
        facets.append(evaluate_facet(new, records, seed=1))
        comparisons.append(compare_facet(old, new, seed=1))
    old_side = replace(SIDE, settings="old.yaml", calibration="feedfeedfeedfeed")
    comparison = Comparison(old_side, tuple(comparisons), (NASTY,)) if compared else None
    return RecordsEvaluation("x.jsonl", 400, SIDE, tuple(facets), (NASTY,), comparison, 1000, 1, 0.1)


def test_files(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    require_report_folder(folder)
    write_report(folder, result())
    files = sorted(path.name for path in folder.iterdir())
    assert files == [
        "1-single-red-script-31m-head-confusion.svg",
        "1-single-red-script-31m-head-scores.svg",
        "2-multi-red-script-31m-head-confusion.svg",
        "2-multi-red-script-31m-head-scores.svg",
        "report.md",
        "result.json",
    ]
    stored = json.loads((folder / RESULT).read_text())
    assert stored["facets"][0]["accuracy"]["value"] == result().facets[0].accuracy.value
    text = (folder / "report.md").read_text()
    for file in files:
        if file.endswith(".svg"):
            assert f"]({file})" in text
            ET.fromstring((folder / file).read_text())  # noqa: S314 - our own


def test_markdown_holds_nothing_of_others() -> None:
    text = markdown(result())
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>" not in text
    assert "http://" not in text
    assert "\n## head" not in text
    assert "the difference is real" in text
    assert "old: old.yaml" in text
    assert "feedfeedfeedfeed" in text


def test_every_row_has_the_columns_of_its_head() -> None:
    columns = 0
    for line in markdown(result()).splitlines():
        if not line.startswith("|"):
            columns = 0
            continue
        found = line.replace("\\|", "").count("|")
        columns = columns or found
        assert found == columns, line


def test_without_a_comparison() -> None:
    assert "Comparison" not in markdown(result(compared=False))


def test_terminal() -> None:
    out = StringIO()
    show_records(Console(file=out, width=200, force_terminal=False), result())
    shown = out.getvalue()
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[red]<script>" in shown
    assert "the difference is real" in shown
    assert "mAP" in shown


def test_many_labels_are_drawn_by_their_mistakes() -> None:
    answers = planted(Kind.SINGLE, labels=50, records=500)
    facet = evaluate_facet(answers, records_of(answers), seed=1)
    picture = confusion_picture(facet)
    assert f"({MOST_LABELS} of 50 labels)" in picture
    assert picture.count('class="empty"') == MOST_LABELS * (MOST_LABELS + 1)
    ET.fromstring(scores_picture(facet))  # noqa: S314 - our own


@pytest.mark.parametrize("signal", [-9.0, 50.0])
def test_all_wrong_and_all_right_can_be_drawn(signal: float) -> None:
    answers = planted(Kind.SINGLE, records=12, labels=3, signal=signal)
    facet = evaluate_facet(answers, records_of(answers), seed=1)
    for picture in (scores_picture(facet), confusion_picture(facet)):
        ET.fromstring(picture)  # noqa: S314 - our own


def test_folders(tmp_path: Path) -> None:
    require_report_folder(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is not empty; --report takes a new folder"):
        require_report_folder(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        require_report_folder(tmp_path / "file")
    with pytest.raises(UsageError, match="make it first"):
        require_report_folder(tmp_path / "a" / "b")
