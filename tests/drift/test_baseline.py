"""The baseline file: what is written is what is read, and anything else is one clear line."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from streamer.drift.baseline import baseline_json, parse_baseline, read_baseline
from streamer.drift.counts import StreamTally, sample_of
from streamer.drift.report import StreamCounts
from streamer.errors import UsageError
from tests.drift.conftest import LABEL_SET, verdict


def counted() -> dict[str, StreamCounts]:
    tally = StreamTally(LABEL_SET, decay=1.0)
    tally.add([sample_of(verdict(0.9, "billing"), "the parcel is late"), sample_of(verdict(0.2), "ö")])
    return {"tickets.raw": tally.counts()}


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    file.write_bytes(baseline_json(counted()))
    assert read_baseline(file) == counted()
    assert parse_baseline(baseline_json({}), origin="x") == {}
    assert orjson.loads(file.read_bytes())["streams"]["tickets.raw"]["counts"]["labels"]["topic"]["billing"] == 1.0


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"format": "streamer-drift-2", "streams": {}}', b"\xff", b'{"streams": {"a": 1}}']
)
def test_another_file_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "baseline.json"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"baseline\.json: no drift baseline .*streamer drift baseline") as caught:
        read_baseline(file)
    assert "\n" not in str(caught.value)


def test_counts_below_zero_are_refused() -> None:
    content = orjson.loads(baseline_json(counted()))
    content["streams"]["tickets.raw"]["counts"]["labels"]["topic"]["billing"] = -1
    with pytest.raises(UsageError, match=r"labels\.topic\.billing"):
        parse_baseline(orjson.dumps(content), origin="x")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_baseline(tmp_path / "none.json")
