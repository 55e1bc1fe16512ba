"""Files through a classifier: one row out for each row in, whatever is in it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from streamer.app import CPU_WINDOW_RECORDS, build_classifier
from streamer.engine.base import Classifier
from streamer.errors import UsageError
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.offline import classify_texts
from streamer.offline_files import Counts, classify_file, plan_file
from streamer.records import Verdict
from streamer.settings import ModelSettings
from streamer.tables import read_file

LABELS = LabelSet(
    "l",
    (
        Facet("mood", Kind.SINGLE, (Label("good"), Label("bad"))),
        Facet("topic", Kind.MULTI, (Label("a.b"), Label("c d"), Label("e"))),
    ),
)
LONG = "word " * 1000  # longer than the fake model's window


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    made = build_classifier(ModelSettings(name="fake"), max_tokens="auto")
    yield made
    made.close()


def run(
    classifier: Classifier,
    source: Path,
    output: Path,
    *,
    text: tuple[str, ...] = (),
    stdin: bytes = b"",
    overwrite: bool = False,
) -> tuple[Counts, list[dict[str, Any]]]:
    """Label a file; returns the counts and the rows that came out."""
    stdout = io.BytesIO()
    counts = classify_file(
        plan_file(source=source, output=output, text=text, overwrite=overwrite),
        classifier=classifier,
        label_set=LABELS,
        stdin=io.BytesIO(stdin),
        stdout=stdout,
        console=Console(file=io.StringIO()),
    )
    if output == Path("-"):
        return counts, [orjson.loads(line) for line in stdout.getvalue().splitlines()]
    assert not stdout.getvalue()
    return counts, [row.columns for row in read_file(output)]


def facets_of(classifier: Classifier, text: str) -> dict[str, Any]:
    (verdict,) = classify_texts(classifier, LABELS, [text])
    assert isinstance(verdict, Verdict)
    return {
        facet.name: {
            "labels": list(facet.labels),
            "scores": {label: round(score, 4) for label, score in facet.scores.items()},
            "abstained": facet.abstained,
        }
        for facet in verdict.facets
    }


LINES = (
    b'{"id": 1, "text": "fine"}\n'
    b"not JSON\n"
    b'{"id": 3, "text": null}\n'
    b'{"id": 4, "text": 4}\n'
    b"\n" + orjson.dumps({"id": 5, "text": LONG, "facets": "old", "error": "old"}) + b"\n"
)


def test_each_row_gives_one_row_with_its_columns_and_labels(classifier: Classifier, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(LINES)
    counts, rows = run(classifier, source, tmp_path / "out.jsonl")
    assert rows[0] == {"id": 1, "text": "fine", "facets": facets_of(classifier, "fine"), "truncated": False}
    assert rows[1]["error"]["code"] == "not_json"
    assert rows[2] == {"id": 3, "text": None, "error": {"code": "no_text", "message": "no text at /text"}}
    assert rows[3]["error"]["code"] == "text_not_string"
    assert rows[4] == {"id": 5, "text": LONG, "facets": facets_of(classifier, LONG), "truncated": True}
    assert (counts.rows, counts.labelled, counts.truncated) == (5, 2, 1)
    assert counts.rejects == {"not_json": 1, "no_text": 1, "text_not_string": 1}


def test_a_parquet_output_holds_the_same_as_json_lines(classifier: Classifier, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(LINES.replace(b'"text": 4', b'"text": "  "'))  # a column holds one type
    _, as_json = run(classifier, source, tmp_path / "out.jsonl")
    _, as_parquet = run(classifier, source, tmp_path / "out.parquet")
    columns = dict.fromkeys(["id", "text", "facets", "truncated", "error"])
    assert as_parquet == [{**columns, **row} for row in as_json]


def test_a_parquet_input_keeps_the_types_of_its_columns(classifier: Classifier, tmp_path: Path) -> None:
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    schema = pa.schema(
        [("text", pa.large_string()), ("at", pa.timestamp("us", tz="UTC")), ("n", pa.int16()), ("error", pa.int8())]
    )
    pq.write_table(pa.Table.from_pylist([{"text": "x", "at": 5, "n": 7, "error": 1}], schema=schema), source)
    run(classifier, source, output)
    written = pq.read_table(output)
    assert written.schema.names == ["text", "at", "n", "facets", "truncated", "error"]
    assert [written.schema.field(i).type for i in range(3)] == [schema.field(i).type for i in range(3)]
    assert written["error"].to_pylist() == [None]


def test_csv_rows_with_columns_of_several_names(classifier: Classifier, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("a/b,body\nhead,tail\n,tail\n,\nx,y,z\n", encoding="utf-8")
    counts, rows = run(classifier, source, Path("-"), text=("a/b", "body"))
    assert rows[0]["facets"] == facets_of(classifier, "head\ntail")
    assert rows[1]["facets"] == facets_of(classifier, "tail")
    assert [row["error"]["code"] for row in rows[2:]] == ["no_text", "extra_fields"]
    assert counts.labelled == 2


def test_pointers_reach_into_objects(classifier: Classifier, tmp_path: Path) -> None:
    stdin = b'{"post": {"parts": ["x", "deep"]}}\n'
    _, rows = run(classifier, Path("-"), Path("-"), text=("/post/parts/1",), stdin=stdin)
    assert rows[0]["facets"] == facets_of(classifier, "deep")
    assert rows[0]["post"] == {"parts": ["x", "deep"]}


@pytest.mark.parametrize("source", [Path("-"), Path("in.txt")])
def test_lines_are_texts(classifier: Classifier, tmp_path: Path, source: Path) -> None:
    lines = b"\xef\xbb\xbffirst\n\n{not JSON}\nlatin \xe4"
    if source.name == "in.txt":
        source = tmp_path / source
        source.write_bytes(lines)
    _, rows = run(classifier, source, tmp_path / "out.parquet", stdin=lines)
    assert [row["text"] for row in rows] == ["first", "", "{not JSON}", None]
    assert rows[0]["facets"] == facets_of(classifier, "first")
    assert rows[1]["error"]["code"] == "empty_text"
    assert rows[2]["facets"] == facets_of(classifier, "{not JSON}")
    assert rows[3]["error"]["code"] == "not_utf8"


def test_order_and_number_hold_over_many_windows(classifier: Classifier, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    wanted = 5 * CPU_WINDOW_RECORDS + 17
    source.write_bytes(b"".join(orjson.dumps({"i": i, "text": "x" * (i % 3)}) + b"\n" for i in range(wanted)))
    counts, rows = run(classifier, source, tmp_path / "out.jsonl")
    assert [row["i"] for row in rows] == list(range(wanted))
    assert all(("error" in row) == (row["i"] % 3 == 0) for row in rows)
    assert counts.rows == wanted


def test_an_empty_file_gives_an_empty_file(classifier: Classifier, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.touch()
    for name in ("out.jsonl", "out.parquet"):
        counts, rows = run(classifier, source, tmp_path / name)
        assert (counts.rows, rows) == (0, [])


def test_a_text_column_that_no_row_has_is_a_mistake(classifier: Classifier, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"id": 1, "Text": "x"}\n{"id": 2}\n')
    with pytest.raises(UsageError, match=r"no column 'text' \(did you mean 'Text'\?\); it has: id, Text; .*--text"):
        run(classifier, source, tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == [source]


def test_interrupted_work_leaves_no_file_and_says_so(classifier: Classifier, tmp_path: Path) -> None:
    class Interrupted(io.BytesIO):
        """Standard input during which Ctrl-C is pressed."""

        def readline(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 2000:
                raise KeyboardInterrupt
            return super().readline(size)

    said = Console(file=io.StringIO(), width=200)
    job = plan_file(source=Path("-"), output=tmp_path / "out.jsonl", text=(), overwrite=False)
    with pytest.raises(KeyboardInterrupt):
        classify_file(
            job,
            classifier=classifier,
            label_set=LABELS,
            stdin=Interrupted(b"line\n" * 1000),
            stdout=io.BytesIO(),
            console=said,
        )
    assert not list(tmp_path.iterdir())
    file = said.file
    assert isinstance(file, io.StringIO)
    assert "out.jsonl was not written" in file.getvalue()


def test_an_output_in_the_way_is_kept_unless_told_otherwise(classifier: Classifier, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b'{"text": "x"}\n')
    output.write_bytes(b"old")
    with pytest.raises(UsageError, match=r"out\.jsonl: is there already; .*--overwrite"):
        run(classifier, source, output)
    assert output.read_bytes() == b"old"
    _, rows = run(classifier, source, output, overwrite=True)
    assert rows[0]["text"] == "x"


def test_what_stands_in_the_way_is_told_before_any_work(tmp_path: Path) -> None:
    source, linked = tmp_path / "in.jsonl", tmp_path / "linked.jsonl"
    source.write_bytes(b'{"text": "x"}\n')
    linked.symlink_to(source)
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "in.txt").touch()
    for place, output, text, told in (
        (tmp_path / "none.jsonl", Path("-"), (), "no such file"),
        (source, source, (), "is the input"),
        (source, linked, (), "is the input"),
        (source, tmp_path / "out.csv", (), "cannot write '.csv' files; use .jsonl"),
        (source, tmp_path / "none" / "out.jsonl", (), "no such folder"),
        (source, tmp_path / "folder.jsonl", (), "is there and no file"),
        (tmp_path / "in.txt", Path("-"), ("body",), "every line is a text"),
        (Path("-"), tmp_path / "out.parquet", ("body",), "write .jsonl instead"),
    ):
        with pytest.raises(UsageError, match=told):
            plan_file(source=place, output=output, text=text, overwrite=True)
