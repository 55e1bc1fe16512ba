"""Files of rows: what is read, what is written, and what is left behind when writing fails."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.errors import UsageError
from streamer.records import Reject
from streamer.tables import (
    ROW_GROUP_ROWS,
    batched,
    count_rows,
    json_line,
    read_file,
    read_schema,
    read_values,
    text_rows,
    write_file,
)

ROWS = [{"text": "one", "n": "1"}, {"text": "two, too", "n": "2"}]


def written(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.fixture(params=["a.jsonl", "a.csv", "a.parquet"])
def two_rows(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param)
    match path.suffix:
        case ".jsonl":
            path.write_bytes(b'{"text": "one", "n": "1"}\r\n\n{"text": "two, too", "n": "2"}')
        case ".csv":
            path.write_text('\ufefftext,n\none,1\n"two, too",2\n', encoding="utf-8")
        case _:
            pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


def test_a_file_is_read_row_by_row(two_rows: Path) -> None:
    assert [row.columns for row in read_file(two_rows)] == ROWS
    assert [orjson.loads(value) for value in read_values(two_rows)] == ROWS
    assert count_rows(two_rows) == (None if two_rows.suffix == ".csv" else 2)
    assert read_schema(two_rows) == pa.schema([("text", pa.string()), ("n", pa.string())])


def test_json_lines_pass_byte_for_byte(tmp_path: Path) -> None:
    lines = [b'{"b": 1.00, "a":  "\\u00e4"}', b"no JSON", b"[1]", b'{"id": 123456789012345678901234567890}', b"\xff"]
    path = written(tmp_path, "a.jsonl", b"\xef\xbb\xbf" + b"\n".join(lines))
    assert list(read_values(path)) == lines
    rows = list(read_file(path))
    assert [row.value for row in rows] == lines
    assert [row.columns for row in rows] == [
        {"b": 1.0, "a": "ä"},
        {},
        {},
        {"id": 123456789012345678901234567890},
        {},
    ]


def test_every_line_of_text_is_a_row(tmp_path: Path) -> None:
    rows = list(text_rows(io.BytesIO(b"one\r\n\nlatin \xe4\n")))
    assert [row.columns for row in rows] == [{"text": "one"}, {"text": ""}, {}]
    assert rows[2].reject == Reject("not_utf8", "byte 6 is not UTF-8")
    path = written(tmp_path, "a.txt", b"one\n\ntwo\n")
    assert list(read_values(path)) == [b'{"text":"one"}', b'{"text":""}', b'{"text":"two"}']
    assert count_rows(path) == 3
    assert read_schema(path).names == ["text"]
    with pytest.raises(UsageError, match=r"b\.txt: row 2: byte 0 is not UTF-8"):
        list(read_values(written(tmp_path, "b.txt", b"one\n\xff\n")))


def test_a_csv_row_with_extra_fields_is_told_by_its_row(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", b"text,n\nwell, then,2\nshort\n")
    first, second = read_file(path)
    assert first.reject == Reject("extra_fields", "more fields than the header names")
    assert second.columns == {"text": "short", "n": None}
    with pytest.raises(UsageError, match="row 1: more fields"):
        list(read_values(path))


def test_parquet_values_that_json_lacks_become_text(tmp_path: Path) -> None:
    from datetime import UTC, datetime
    from decimal import Decimal

    path = tmp_path / "a.parquet"
    row = {"at": datetime(2026, 1, 2, 3, tzinfo=UTC), "price": Decimal("1.50"), "raw": b"a\xff", "x": float("nan")}
    pq.write_table(pa.Table.from_pylist([row]), path)
    (value,) = read_values(path)
    assert orjson.loads(value) == {"at": "2026-01-02T03:00:00+00:00", "price": "1.50", "raw": "a\\xff", "x": None}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.csv", None, "no such file"),
        ("a.xlsx", b"", "cannot read '.xlsx' files; use .jsonl"),
        ("a.parquet", b"PAR1 but not really", "not a readable .parquet file"),
        ("a.csv", b"text\n\xff\n", "not a readable .csv file"),
    ],
)
def test_files_that_cannot_be_read_are_told_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    path = tmp_path / name if content is None else written(tmp_path, name, content)
    with pytest.raises(UsageError, match=told):
        list(read_file(path))
    if name == "a.parquet":
        for read in (count_rows, read_schema):
            with pytest.raises(UsageError, match=told):
                read(path)


def test_columns_of_json_lines_are_learned_from_all_of_them(tmp_path: Path) -> None:
    early = b'{"a": 1, "late": null}\n' * ROW_GROUP_ROWS
    path = written(tmp_path, "a.jsonl", early + b'{"a": 1.5, "late": {"x": ["y"]}, "new": true}\nno JSON\n')
    late = pa.struct([("x", pa.list_(pa.string()))])
    assert read_schema(path) == pa.schema([("a", pa.float64()), ("late", late), ("new", pa.bool_())])


@pytest.mark.parametrize("content", [b'{"a": 1}\n{"a": "x"}\n', b'{"a": 123456789012345678901234567890}\n'])
def test_columns_that_parquet_cannot_hold_are_told_before_the_work(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match=r"a\.jsonl: its columns fit no parquet file .*; write \.jsonl instead"):
        read_schema(written(tmp_path, "a.jsonl", content))


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    rows: list[dict[str, Any]] = [{"text": "ä", "n": i, "in": {"x": [i]}} for i in range(ROW_GROUP_ROWS + 3)]
    with write_file(path, pa.Table.from_pylist(rows[:1]).schema) as write:
        for batch in batched(rows, 1000):
            write(batch)
        assert not path.exists()
    assert [row.columns for row in read_file(path)] == rows
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_a_failure_leaves_no_half_file_and_the_old_one_whole(
    tmp_path: Path, name: str, failure: type[BaseException]
) -> None:
    path = written(tmp_path, name, b"old")

    def fail() -> None:
        with write_file(path, pa.schema([("a", pa.int64())])) as write:
            write([{"a": 1}])
            raise failure

    with pytest.raises(failure):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_row_that_does_not_fit_the_columns_is_told(tmp_path: Path) -> None:
    def write_wrong() -> None:
        with write_file(tmp_path / "out.parquet", pa.schema([("a", pa.int64())])) as write:
            write([{"a": "x"}])

    with pytest.raises(UsageError, match="a row fits no parquet file"):
        write_wrong()
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"out\.jsonl: cannot be written"),
        write_file(tmp_path / "none" / "out.jsonl", None),
    ):
        pass


def test_whole_numbers_beyond_64_bits_stay_whole() -> None:
    assert json_line({"id": 2**70, "text": "ä"}) == b'{"id": 1180591620717411303424, "text": "\xc3\xa4"}\n'
