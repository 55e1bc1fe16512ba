"""Labelled records: every way of writing labels reads the same, and what is wrong is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.errors import UsageError
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.tuning.labelled import LabelledRecords, read_labelled_records

MOOD = Facet("mood", Kind.SINGLE, (Label("good"), Label("bad", "something is wrong")))
TOPIC = Facet("topic", Kind.MULTI, (Label("billing"), Label("outage"), Label("a; b")))
TICKETS = LabelSet("tickets", (MOOD, TOPIC))
ONLY_TOPIC = LabelSet("topics", (TOPIC,))

EXPECTED = {
    "mood": (frozenset({"good"}), frozenset({"bad"}), None),
    "topic": (frozenset({"billing", "outage"}), frozenset(), frozenset({"a; b"})),
}
ROWS: list[dict[str, Any]] = [
    {"id": "1", "text": "paid twice", "labels": {"mood": "good", "topic": ["billing", "outage"]}},
    {"id": "2", "text": "down", "labels": {"mood": "bad", "topic": []}},
    {"id": "3", "text": "hm", "labels": {"mood": None, "topic": ["a; b"]}},
]
COLUMNS: list[dict[str, Any]] = [
    {"text": "paid twice", "mood": "good", "topic": ["billing", "outage"]},
    {"text": "down", "mood": "bad", "topic": []},
    {"text": "hm", "mood": None, "topic": ["a; b"]},
]
CSV_COLUMNS = "text,mood,topic\npaid twice,good,billing; outage\ndown,bad,[]\nhm,,a; b\n"
CSV_JSON = 'text,labels\npaid twice,"{""mood"": ""good"", ""topic"": ""billing;outage""}"\n' \
    'down,"{""mood"": ""bad"", ""topic"": []}"\nhm,"{""topic"": ""a; b""}"\n'  # fmt: skip


def json_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def text_file(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


@pytest.mark.parametrize("way", ["jsonl", "parquet", "jsonl columns", "parquet columns", "csv columns", "csv json"])
def test_every_way_of_writing_reads_the_same(tmp_path: Path, way: str) -> None:
    paths = {
        "jsonl": lambda: json_lines(tmp_path / "a.jsonl", ROWS),
        "parquet": lambda: parquet(tmp_path / "a.parquet", ROWS),
        "jsonl columns": lambda: json_lines(tmp_path / "b.jsonl", COLUMNS),
        "parquet columns": lambda: parquet(tmp_path / "b.parquet", COLUMNS),
        "csv columns": lambda: text_file(tmp_path / "b.csv", CSV_COLUMNS),
        "csv json": lambda: text_file(tmp_path / "c.csv", CSV_JSON),
    }
    records = read_labelled_records(paths[way](), TICKETS)
    assert records.texts == ("paid twice", "down", "hm")
    assert records.right == EXPECTED
    assert records.ids == (("1", "2", "3") if way in ("jsonl", "parquet") else None)


def test_a_single_facet_takes_plain_labels(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "x", "labels": ["billing"]},
        {"text": "y", "labels": "billing;outage"},
        {"text": "z", "labels": []},
        {"text": "?", "labels": None},
    ]
    records = read_labelled_records(json_lines(tmp_path / "a.jsonl", rows), ONLY_TOPIC)
    assert records.right["topic"] == (frozenset({"billing"}), frozenset({"billing", "outage"}), frozenset(), None)


def test_a_list_of_one_is_a_label_of_a_single_facet(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "a.jsonl", [{"text": "x", "labels": {"mood": ["bad"]}}])
    assert read_labelled_records(path, TICKETS).right == {"mood": (frozenset({"bad"}),), "topic": (None,)}


def test_other_text_columns_and_splits(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"subject": "s", "mail": {"body": "b"}, "mood": "good", "split": "test"},
        {"subject": "t", "mail": {"body": None}, "mood": "bad", "split": "dev"},
    ]
    path = json_lines(tmp_path / "a.jsonl", rows)
    assert read_labelled_records(path, TICKETS, text=["subject", "/mail/body"]).texts == ("s\nb", "t")
    assert read_labelled_records(path, TICKETS, text=["subject"], split="dev").texts == ("t",)
    with pytest.raises(UsageError, match="no rows of split 'x'"):
        read_labelled_records(path, TICKETS, text=["subject"], split="x")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "a", "labels": {"mod": "good"}}, "row 1: 'labels' names the facet 'mod', .*did you mean 'mood'"),
        ({"text": "a", "labels": {"mood": "goood"}}, "row 1: facet 'mood': no label 'goood' .did you mean 'good'"),
        ({"text": "a", "mood": "good;bad"}, "row 1: facet 'mood': 'good;bad' are 2 labels"),
        ({"text": "a", "mood": []}, "row 1: facet 'mood': .* are 0 labels"),
        ({"text": "a", "mood": 5}, "row 1: facet 'mood': no label '5'"),
        ({"text": "a", "mood": [["good"]]}, "row 1: facet 'mood': no label"),
        ({"text": "a", "topic": [{"a": 1}]}, "row 1: facet 'topic': no label"),
        ({"text": "a", "labels": ["good"]}, "row 1: 'labels' is .* has 2 facets; say of which one"),
        ({"text": "a", "mood": "\x1b[31mred"}, r"no label '\\x1b\[31mred'"),
        ({"text": "a", "what": 1}, "row 1: no column 'labels', and none named as a facet of 'tickets'"),
        ({"txt": "a", "mood": "good"}, "row 1: no column 'text' .did you mean 'txt'"),
        ({"text": " ", "mood": "good"}, "row 1: no text in 'text'"),
        ({"text": 7, "mood": "good"}, "row 1: 'text' holds no text but '7'"),
        ({"text": "a", "mood": None}, "no row says which label is right"),
    ],
)
def test_wrong_rows_are_one_line(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    path = json_lines(tmp_path / "a.jsonl", [row])
    with pytest.raises(UsageError, match=says) as caught:
        read_labelled_records(path, TICKETS)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_split_needs_its_column(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column 'split'"):
        read_labelled_records(json_lines(tmp_path / "a.jsonl", COLUMNS), TICKETS, split="test")


def test_sizes_are_bounded(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "a.jsonl", COLUMNS)
    read_labelled_records(path, TICKETS, most_records=3, most_characters=16)
    with pytest.raises(UsageError, match="row 3: the file is larger than 2 records"):
        read_labelled_records(path, TICKETS, most_records=2)
    with pytest.raises(UsageError, match=r"row 3: .* 15 characters of text; take a sample"):
        read_labelled_records(path, TICKETS, most_characters=15)


def test_a_facet_named_labels_is_a_column_of_its_own(tmp_path: Path) -> None:
    label_set = LabelSet("x", (Facet("labels", Kind.SINGLE, (Label("a"), Label("b"))),))
    records: LabelledRecords = read_labelled_records(
        json_lines(tmp_path / "a.jsonl", [{"text": "t", "labels": "a"}, {"text": "t", "labels": {"labels": "b"}}]),
        label_set,
    )
    assert records.right["labels"] == (frozenset({"a"}), frozenset({"b"}))
