"""Limits of inputs that no other test shows, and SECURITY.md, which names a test for each."""

from __future__ import annotations

import csv
import http.client
import io
import random
import re
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from streamer.errors import UsageError
from streamer.settings import build_settings, load_settings
from streamer.settings_files import MOST_BYTES
from streamer.settings_labels import MOST_LABELS, MOST_NAME_CHARACTERS, MOST_TEXT_CHARACTERS
from streamer.tables import MOST_LINE_BYTES, READ_ROWS, count_rows, json_rows, read_file, text_rows
from streamer.telemetry.health import Health
from streamer.telemetry.http import TelemetryServer
from streamer.telemetry.prometheus import PrometheusObserver

ROOT = Path(__file__).parents[2]
STREAM = {"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "l"}


def settings(label_set: dict[str, Any]) -> dict[str, Any]:
    return {"label_sets": {"l": label_set}, "streams": [STREAM]}


def bomb(*, merges: bool) -> str:
    """A kilobyte of aliases that stands for 10^9 values."""
    lines = ["a0: &a0 {k: v}" if merges else "a0: &a0 [v, v, v, v, v, v, v, v, v, v]"]
    for level in range(1, 10):
        ten = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} {{<<: [{ten}]}}" if merges else f"a{level}: &a{level} [{ten}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bomb(merges=False), "more than 200,000 values"),
        (bomb(merges=True), "more than 200,000 values"),
        ("a: &a [*a]", "more than 200,000 values"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "9" * 5000, "not YAML"),
        ("# " + "x" * MOST_BYTES, "larger than 4 MB"),
    ],
)
def test_settings_that_would_fill_memory_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "streamer.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=words) as caught:
        load_settings(path)
    assert len(str(caught.value)) < 300


def test_aliases_in_measure_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "streamer.yaml"
    facets = "facets: {one: {labels: &labels [a, b]}, two: {labels: *labels}}"
    path.write_text(f"label_sets: {{l: {{{facets}}}}}\nstreams: [{yaml.safe_dump(STREAM, default_flow_style=True)}]")
    assert len(load_settings(path).build_label_sets()["l"].labels) == 4


@pytest.mark.parametrize(
    ("label_set", "words"),
    [
        ({"facets": {"f": {"labels": [str(n) for n in range(MOST_LABELS + 1)]}}}, "at most 10,000"),
        ({"facets": {"f": {"labels": ["a", "b" * (MOST_NAME_CHARACTERS + 1)]}}}, "name is longer than 500"),
        ({"facets": {"f": {"labels": {"a": None, "b": "c" * (MOST_TEXT_CHARACTERS + 1)}}}}, "description is longer"),
        ({"facets": {"f": {"labels": ["a", "b"]}}, "prompt": "c" * (MOST_TEXT_CHARACTERS + 1)}, "prompt"),
    ],
)
def test_label_sets_beyond_measure_are_refused(label_set: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        build_settings(settings(label_set), origin="x.yaml")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("suffix", [".jsonl", ".txt", ".csv"])
def test_a_line_without_end_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"text\n" + b"x" * (MOST_LINE_BYTES + 10))
    with pytest.raises(UsageError, match="line 2 is longer than 16 MB"):
        list(read_file(path))
    if suffix != ".csv":  # whose rows are not counted beforehand
        with pytest.raises(UsageError, match="line 2 is longer than 16 MB"):
            count_rows(path)


def test_a_line_without_end_on_standard_input_is_refused() -> None:
    for rows in (json_rows, text_rows):
        with pytest.raises(UsageError, match="line 1 is longer than 16 MB"):
            list(rows(io.BytesIO(b"x" * (MOST_LINE_BYTES + 2))))


def test_the_longest_line_is_read() -> None:
    (row,) = text_rows(io.BytesIO(b"x" * MOST_LINE_BYTES + b"\n"))
    assert len(row.value) == MOST_LINE_BYTES


def test_a_csv_field_has_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "x" * (csv.field_size_limit() + 1) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="field larger than field limit"):
        list(read_file(path))


def test_parquet_is_read_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [f"{random.random()}" * 60 for _ in range(20 * READ_ROWS)]
    table = pa.table({"text": rows})
    pq.write_table(table, path, row_group_size=READ_ROWS, use_dictionary=False)
    before = pa.total_allocated_bytes()
    found = read_file(path)
    next(found)
    assert pa.total_allocated_bytes() - before < table.nbytes / 4
    assert 1 + sum(1 for _ in found) == len(rows)


def test_connections_have_their_limit() -> None:
    health = Health(clock=time.monotonic, stuck_after_s=30.0, engine_stuck_after_s=120.0)
    metrics = PrometheusObserver(streams=(), wall_clock=time.time, longest_pauses=dict, drift=None, shadow=False)
    server = TelemetryServer(host="127.0.0.1", port=0, health=health, metrics=metrics, drift_json=None, page=None)
    server.start()
    try:
        with ExitStack() as idle:
            for _ in range(260):
                idle.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            assert status(server.port) == 503
        deadline = time.monotonic() + 30
        while status(server.port) != 200:
            assert time.monotonic() < deadline
    finally:
        server.stop()


def status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/healthz")
    code = connection.getresponse().status
    connection.close()
    return code


def test_every_limit_that_the_page_lists_names_a_test_that_is_there() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "tests/" in line]
    assert len(rows) > 15
    for row in rows:
        for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row):
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), row
        assert "::" in row, row
