"""Cost beside tokens, as labels and texts grow."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.app import build_classifier
from streamer.bench.scaling import LABEL_COUNTS, TEXT_TOKENS, ScalePoint, Scaling, measure_scaling
from streamer.settings import ModelSettings


def test_growth_is_from_16_labels_to_128() -> None:
    def point(size: int, us: float, tokens: float) -> ScalePoint:
        return ScalePoint(size, us, 2 * us, tokens, cut=0.0)

    labels = (point(4, 5.0, 60.0), point(16, 10.0, 80.0), point(128, 20.0, 200.0))
    growth = Scaling(labels, ()).growth
    assert (growth.from_labels, growth.to_labels) == (16, 128)
    assert (growth.cost, growth.cpu, growth.tokens) == (2.0, 2.0, 2.5)


def test_a_label_is_one_token_for_the_bundled_model(tiny_bundled: Path) -> None:
    advanced: list[int] = []
    classifier = build_classifier(ModelSettings(name=str(tiny_bundled), device="cpu"), max_tokens="auto")
    try:
        found = measure_scaling(classifier=classifier, rounds=1, advance=advanced.append)
    finally:
        classifier.close()
    assert [one.size for one in found.labels] == list(LABEL_COUNTS)
    assert [one.size for one in found.text] == list(TEXT_TOKENS)
    assert len(advanced) == len(LABEL_COUNTS) + len(TEXT_TOKENS)
    assert all(one.us_per_record > 0 and one.cpu_us_per_record > 0 for one in (*found.labels, *found.text))
    window = classifier.describe().window_tokens
    for one in found.labels:
        assert one.tokens_per_record == pytest.approx(window + one.size), "its texts fill this model's window"
    assert found.text[-1].cut == 1.0
    assert found.text[-1].tokens_per_record == window + 24
