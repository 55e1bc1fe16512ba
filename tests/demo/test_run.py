"""`streamer demo --page`: the shipped records come slowly, the page shows them, Ctrl-C ends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import orjson

PATIENCE_S = 60.0


def test_its_page_shows_the_records_until_it_is_stopped(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamer", "demo", "--page"],
            stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "COLUMNS": "120"},
        )  # fmt: skip
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while (found := re.search(r"live page at (http://127\.0\.0\.1:\d+/), until Ctrl-C", out.read_text())) is None:
            assert process.poll() is None, out.read_text()
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        records: list[dict[str, object]] = []
        with urlopen(f"{found[1]}page/events", timeout=PATIENCE_S) as events:  # noqa: S310 - our own
            while len(records) < 3:
                line: bytes = events.readline()
                if line.startswith(b"data: "):
                    message = orjson.loads(line.removeprefix(b"data: "))
                    records += message["records"]
        assert message["state"]["model"]["name"] == "bundled"
        assert {record["topic"] for record in records} <= {"demo.tickets", "demo.posts"}
        assert all(isinstance(record["text"], str) and record["text"] for record in records)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 1  # not all records had come
        assert "stopped before the end" in out.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
