"""The comparison runs every variant once a seed, goes on where it was, and never compares unlike runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from load_tests.compare_variants import main
from load_tests.variants.models import VARIANTS


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [
        {"dataset": name, "split": split, "text": f"{label[0] * 4} {i}", "labels": [label], "multi": name == "others"}
        for name, labels in (("letters", ("alpha", "beta")), ("others", ("gamma", "delta")))
        for split, each in (("train", 20), ("validation", 8))
        for i in range(each)
        for label in labels
    ]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(corpus: Path, model: Path, capfd: pytest.CaptureFixture[str], **changed: Any) -> str:
    options = {"leave_out": None, "steps": 3, "texts": 6, "seeds": 2, **changed}
    with pytest.raises(typer.Exit) as ended:
        main(
            corpus, start=model, work=corpus.parent / "work", wordnet=None, written=None, fit_split="train",
            measure_split="validation", device="cpu", **options,
        )  # fmt: skip
    out, err = capfd.readouterr()
    return out if ended.value.exit_code == 0 else err


def without_costs(path: Path) -> list[Any]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [[row["variant"], row["seed"], row["fit"]["losses"], row["measured"]["sets"]] for row in rows]


def test_every_variant_and_seed_once(corpus: Path, tiny_bundled: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(corpus, tiny_bundled, capfd).splitlines()[-1])
    runs = corpus.parent / "work" / "runs.jsonl"
    lines = runs.read_text().splitlines(keepends=True)
    whole = without_costs(runs)
    assert [row[:2] for row in whole] == [[name, seed] for seed in (1, 2) for name in VARIANTS]
    assert [(one["dataset"], one["texts"], one["labels"]) for one in found["sets"]] == [
        ("letters", 6, 2),
        ("others", 6, 2),
    ]
    for place, name in enumerate(VARIANTS):
        by_seed = [sum(one["macro_f1"] for one in row[3]) / 2 for row in whole if row[0] == name]
        assert found["variants"][name]["by_seed"] == pytest.approx(by_seed)
        assert found["variants"][name]["mean_macro_f1"] == pytest.approx(sum(by_seed) / 2)
        assert found["variants"][name]["examples"] == 96
        assert found["differences"][place]["variant"] in VARIANTS
    one = found["differences"][0]
    means = [found["variants"][name]["mean_macro_f1"] for name in (one["variant"], one["less"])]
    assert one["mean"] == pytest.approx(means[0] - means[1])

    runs.write_text("".join(lines[:-2]))  # broken off: what is missing is done again, and gives the same
    again = json.loads(run(corpus, tiny_bundled, capfd).splitlines()[-1])
    assert runs.read_text().splitlines(keepends=True)[:-2] == lines[:-2]
    assert without_costs(runs) == whole
    assert again["differences"] == found["differences"]
    assert "holds runs with other steps" in run(corpus, tiny_bundled, capfd, steps=4)


def test_nothing_left_to_measure(corpus: Path, tiny_bundled: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "every data set is left out" in run(corpus, tiny_bundled, capfd, leave_out=["letters", "others"])
