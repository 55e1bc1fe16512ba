"""Reading labelled files, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.errors import UsageError
from streamer.tuning.data import read_labelled

ROWS = [
    {"text": "it is down", "labels": ["outage"], "dataset": "a", "split": "train", "multi": False},
    {"text": "bill me", "labels": ["billing", "invoice"], "dataset": "b", "split": "train", "multi": True},
    {"text": "why", "labels": ["question"], "dataset": "a", "split": "test", "multi": False},
]


def write(path: Path) -> Path:
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(ROWS), path)
        case ".jsonl":
            import json

            path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
        case ".csv":
            lines = [f"{r['text']},{'|'.join(r['labels'])},{r['dataset']},{r['split']},{r['multi']}" for r in ROWS]  # type: ignore[arg-type]
            path.write_text("\n".join(["text,labels,dataset,split,multi", *lines]))
    return path


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl", "x.csv"])
def test_every_format_reads_the_same(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    first, second = read_labelled(path, "train")
    assert (first.dataset, first.texts, first.labels, first.multi) == ("a", ("it is down",), (("outage",),), False)
    assert (second.names, second.labels, second.multi) == (("billing", "invoice"), (("billing", "invoice"),), True)
    assert len(read_labelled(path, None)[0].texts) == 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.txt", "a", "row 1 lacks the column"),
        ("x.doc", "a", "cannot read '.doc' files"),
        ("x.jsonl", '{"text": "a"}', "row 1 lacks the column"),
        ("x.jsonl", "{", "row 1: a JSON object is needed"),
        ("x.jsonl", "[]", "row 1: a JSON object is needed"),
        ("x.jsonl", "", "no rows"),
        ("x.csv", "text\nhello\n", "row 1 lacks the column"),
        ("x.parquet", "not parquet", "x.parquet"),
    ],
)
def test_wrong_files_are_one_line(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=says) as caught:
        read_labelled(tmp_path / name, None)
    assert "\n" not in str(caught.value)


def test_missing_file_and_split(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_labelled(tmp_path / "x.jsonl", None)
    with pytest.raises(UsageError, match="no rows of split 'dev'"):
        read_labelled(write(tmp_path / "x.jsonl"), "dev")
