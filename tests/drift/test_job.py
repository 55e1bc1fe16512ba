"""`streamer drift` from the command line: a file or a running process makes a baseline, and one is compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import yaml

from streamer.drift.baseline import baseline_json, read_baseline
from streamer.drift.watch import DriftObserver
from streamer.telemetry.health import Health
from streamer.telemetry.http import TelemetryServer
from streamer.telemetry.prometheus import PrometheusObserver
from tests.commands import Command
from tests.drift.conftest import LABEL_SET, labelled, tell, verdict

TEXTS = [f"the parcel {i} is late and it was not on time" for i in range(40)]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    facets = {"mood": {"labels": ["bad", "good"], "min_score": 0.6}, "topic": {"kind": "multi", "labels": ["a", "b"]}}
    stream = {"output": "out", "dead_letter": "dead", "label_set": "tickets"}
    content = {
        "kafka": {"bootstrap_servers": "embedded"},
        "model": {"name": "fake"},
        "label_sets": {"tickets": {"facets": facets}},
        "streams": [{**stream, "topic": "in"}, {**stream, "topic": "posts"}],
        "drift": {"baseline": "baseline.json"},
    }
    path = tmp_path / "streamer.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def running() -> Iterator[str]:
    """The address of `/drift` of a process that watched some records of `in`."""
    observer = DriftObserver(baseline={}, window_records=1000, sample_every=1)
    window = [labelled("in", i, verdict(0.9, "billing"), text) for i, text in enumerate(TEXTS)]
    tell(observer, window)
    observer.stopped()
    server = TelemetryServer(
        host="127.0.0.1",
        port=0,
        health=Health(clock=lambda: 0.0, stuck_after_s=1.0, engine_stuck_after_s=1.0),
        metrics=PrometheusObserver(
            streams=[], wall_clock=lambda: 0.0, longest_pauses=dict, drift=observer.drift, shadow=False
        ),
        drift_json=lambda: baseline_json(observer.counted()),
        page=None,
    )
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def records(path: Path, *texts: str) -> str:
    path.write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))
    return str(path)


def test_a_file_of_records_becomes_a_baseline(tmp_path: Path, settings: Path, command: Command) -> None:
    out = tmp_path / "baseline.json"
    file = records(tmp_path / "records.jsonl", *TEXTS, " ")
    code, said, err = command("drift", "baseline", "-c", str(settings), "-o", str(out), "-i", file, "--topic", "in")
    assert (code, err) == (0, "")
    assert "'in', 40 records, 1 could not be labelled; label set 'tickets'" in " ".join(said.split())
    counts = read_baseline(out)["in"]
    assert counts.records == 40
    assert counts.counts["language", ""]["en"] == 40
    assert counts.counts["length", ""]["32"] == 40
    assert sum(counts.counts["scores", "topic"].values()) == 40

    # another stream is added; the first is replaced only when asked to
    again = ("drift", "baseline", "-c", str(settings), "-o", str(out), "-i", file)
    assert command(*again, "--topic", "posts", "--limit", "5")[0] == 0
    assert {topic: one.records for topic, one in read_baseline(out).items()} == {"in": 40, "posts": 5}
    code, _, err = command(*again, "--topic", "in", "--limit", "7")
    assert code == 2
    assert "holds 'in' already; name another file, or give --overwrite" in err
    assert command(*again, "--topic", "in", "--limit", "7", "--overwrite")[0] == 0
    assert read_baseline(out)["in"].records == 7


def test_a_running_process_becomes_a_baseline_and_is_shown_against_one(
    tmp_path: Path, settings: Path, command: Command, running: str
) -> None:
    out = tmp_path / "baseline.json"
    code, said, _ = command("drift", "baseline", "-c", str(settings), "-o", str(out), "--url", f"{running}/drift")
    assert code == 0
    assert f"version {LABEL_SET.version}" in " ".join(said.split())
    assert read_baseline(out)["in"].counts["labels", "topic"]["billing"] == pytest.approx(40, rel=0.05)
    code, said, _ = command("drift", "show", "-c", str(settings), "--url", f"{running}/drift")
    assert code == 0
    assert "labels of topic" in said
    assert "0.000" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "say where the records are: one of --url, --input and --since"),
        (("-i", "x.jsonl", "--since", "1h"), "one of --url, --input and --since"),
        (("-i", "x.jsonl"), "say with --topic whose records --input holds"),
        (("-i", "x.jsonl", "--topic", "inn"), "is no input topic of the settings (did you mean 'in'?)"),
        (("-i", "none.jsonl", "--topic", "in"), "none.jsonl"),
        (("--since", "1h"), "the embedded broker of these settings starts empty"),
        (("--url", "file:///etc/passwd"), "write http://HOST:PORT/drift"),
        (("--url", "http://127.0.0.1:9/drift"), "no answer"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, settings: Path, command: Command, arguments: tuple[str, ...], says: str
) -> None:
    code, _, err = command("drift", "baseline", "-c", str(settings), "-o", str(tmp_path / "b.json"), *arguments)
    assert code == 2
    assert says in " ".join(err.split())
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "b.json").exists()


def test_pages_that_hold_no_counts_are_told(tmp_path: Path, settings: Path, command: Command, running: str) -> None:
    out = str(tmp_path / "b.json")
    for page, says in (("/", "no drift baseline"), ("/none", "answers 404")):
        code, _, err = command("drift", "baseline", "-c", str(settings), "-o", out, "--url", running + page)
        assert code == 2
        assert says in err


def test_a_file_without_a_single_label_makes_no_baseline(tmp_path: Path, settings: Path, command: Command) -> None:
    file = records(tmp_path / "records.jsonl", " ")
    out = tmp_path / "b.json"
    code, _, err = command("drift", "baseline", "-c", str(settings), "-o", str(out), "-i", file, "--topic", "in")
    assert code == 2
    assert "nothing was counted of in" in err
    assert not out.exists()


def test_without_a_baseline_there_is_nothing_to_show(settings: Path, command: Command) -> None:
    code, _, err = command("drift", "show", "-c", str(settings), "--url", "http://127.0.0.1:9/drift")
    assert code == 2
    assert "baseline.json: No such file" in err
