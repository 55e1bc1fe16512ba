"""What a check says of baselines and shadows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamer.check.findings import Finding, Level
from streamer.check.trust import check_trust
from streamer.drift.baseline import baseline_json
from streamer.drift.report import StreamCounts
from streamer.settings import Settings, build_settings


def settings(**changed: Any) -> Settings:
    content: dict[str, Any] = {
        "model": {"name": "fake"},
        "label_sets": {
            "tickets": {"facets": {"mood": {"labels": ["good", "bad"]}}},
            "other": {"facets": {"size": {"labels": ["small", "large"]}}},
        },
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "tickets"}],
        **changed,
    }
    return build_settings(content, origin="test")


def found(one: Settings) -> list[tuple[Level, str, str]]:
    findings: list[Finding] = list(check_trust(one, one.build_label_sets()))
    return [(finding.level, finding.where, finding.what) for finding in findings]


def test_without_drift_and_shadow_nothing_is_said() -> None:
    assert found(settings()) == []


def test_a_baseline_is_read_and_compared_with_the_label_set(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    one = settings(drift={"baseline": str(file)})
    version = one.build_label_sets()["tickets"].version
    (missing,) = found(one)
    assert missing[0] is Level.ERROR
    for held, level, says in (
        ({"in": version}, None, ""),
        ({"in": "old"}, Level.WARNING, "'in' was labelled by another version of its label set (old)"),
        ({"posts": version}, Level.WARNING, "nothing in it of 'in'"),
    ):
        counts = {topic: StreamCounts("tickets", was, 1.0, {}) for topic, was in held.items()}
        file.write_bytes(baseline_json(counts))
        first, *rest = found(one)
        assert (first[0], first[1]) == (Level.OK, "drift.baseline")
        assert [one_[0] for one_ in rest] == ([] if level is None else [level])
        assert all(says in what for _, _, what in rest)
    (finding,) = found(settings(drift={}))
    assert "no distance from anything" in finding[2]


def test_a_shadow_is_warmed_up() -> None:
    def shadow(label_set: str, **model: Any) -> list[tuple[Level, str, str]]:
        chosen = {"model": model} if model else {}
        return found(settings(shadow={**chosen, "streams": {"in": {"label_set": label_set, "topic": "side"}}}))

    assert [one[0] for one in shadow("tickets")] == [Level.OK]
    assert "fake" in shadow("tickets")[0][2]
    _, nothing = shadow("other")
    assert nothing[0] is Level.WARNING
    assert "share no facet: nothing is compared" in nothing[2]
    (failed,) = shadow("tickets", name="/no/such/model")
    assert (failed[0], failed[1]) == (Level.ERROR, "shadow.model")
