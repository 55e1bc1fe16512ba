"""Texts out of a file, sampled."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson
import pytest

from streamer.errors import UsageError
from streamer.labels.texts import MOST_CHARACTERS, Sample, sample_texts, texts_in_columns, texts_of_stream
from streamer.settings import StreamSettings


def write(path: Path, rows: list[object]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def read(path: Path, columns: list[str] | None = None, most: int = 100, seed: int = 1) -> Sample:
    find = texts_in_columns(path, columns or [])
    return sample_texts(path, find, most=most, seed=seed, advance=lambda _: None)


def test_texts_stand_in_columns_or_lines(tmp_path: Path) -> None:
    rows = write(tmp_path / "a.jsonl", [{"text": "one", "a": {"b": "two"}}, {"text": " "}, {"text": 3}])
    assert read(rows) == Sample(("one",), 3, 2)
    assert read(rows, ["text", "/a/b"]).texts == ("one\ntwo",)
    (tmp_path / "b.txt").write_text("one\n\ntwo\n")
    assert read(tmp_path / "b.txt") == Sample(("one", "two"), 3, 1)
    with pytest.raises(UsageError, match="every line is a text"):
        read(tmp_path / "b.txt", ["text"])


def test_a_file_without_texts_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no row has a text \(no text at /body\); say which column"):
        read(write(tmp_path / "a.jsonl", [{"words": "one"}]), ["body"])
    with pytest.raises(UsageError, match="it is empty"):
        read(write(tmp_path / "b.jsonl", []))


def test_no_more_than_asked_for_is_kept_and_each_is_as_likely(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": f"{n}"} for n in range(20)])
    drawn = Counter(text for seed in range(300) for text in read(path, most=5, seed=seed).texts)
    assert sum(drawn.values()) == 5 * 300
    assert all(40 < drawn[str(n)] < 115 for n in range(20))  # 75 are expected, 7.5 is a standard deviation
    assert read(path, most=5).texts == read(path, most=5).texts
    assert list(map(int, read(path, most=5).texts)) == sorted(map(int, read(path, most=5).texts))


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    (text,) = read(write(tmp_path / "a.jsonl", [{"text": "x" * 10_000}])).texts
    assert len(text) == MOST_CHARACTERS


def test_records_are_read_as_their_stream_says_or_by_the_column_text(tmp_path: Path) -> None:
    stream = StreamSettings(topic="in", output="out", dead_letter="dead", label_set="x", text=["/subject", "/body"])
    path = write(tmp_path / "a.jsonl", [{"subject": "s", "body": "b"}, {"text": "t"}, {"other": 1}])
    find = texts_of_stream(path, stream.build())
    sample = sample_texts(path, find, most=10, seed=1, advance=lambda _: None)
    assert sample == Sample(("s\nb", "t"), 3, 1)
