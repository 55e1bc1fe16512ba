"""The training mixture: what an example may look like."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from streamer.errors import UsageError
from streamer.tuning.data import LabelledSet
from streamer.tuning.recipe import GRADES, build_sources, draw_examples
from streamer.tuning.wordnet import read_wordnet

INTENTS = LabelledSet(
    "intents", ("a", "b", "c", "not labeled"), ("x", "y", "z"), (("a",), ("b",), ("not labeled",)), False
)
EMOTIONS = LabelledSet(
    "goemotions",
    ("anger", "joy", "neutral"),
    ("grr", "yay", "hm", "both"),
    (("anger",), ("joy",), ("neutral",), ("anger", "joy")),
    True,
)

# two synsets of wndb(5WN), a hyponym and its hypernym chain, in the database's own format
NOUNS = """  1 a licence line
00000001 03 n 01 entity 0 000 | that which exists
00000002 03 n 01 thing 0 001 @ 00000001 n 0000 | an entity
00000003 03 n 01 object 0 001 @ 00000002 n 0000 | a thing
00000004 03 n 01 whole 0 001 @ 00000003 n 0000 | an object
00000005 05 n 02 animal 0 beast 0 001 @ 00000004 n 0000 | a living organism; "the animals in the zoo were restless"
00000006 05 n 01 dog 0 002 @ 00000005 n 0000 ;c 00000007 n 0000 | a domestic animal
00000007 09 n 01 field_of_study 0 001 @ 00000004 n 0000 | a branch of knowledge
00000008 05 n 01 puppy 0 001 @ 00000006 n 0000 | a young dog
"""


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    (tmp_path / "data.noun").write_text(NOUNS)
    (tmp_path / "data.verb").write_text("")
    return tmp_path


def test_wordnet(wordnet: Path) -> None:
    glosses = {gloss.text: gloss for gloss in read_wordnet(wordnet)}
    assert glosses["a domestic animal"].positives == ("field of study", "animal")
    assert glosses["a young dog"].positives == ("dog", "animal")
    assert glosses["a young dog"].domain == 5
    assert "that which exists" not in glosses  # nothing holds for it that says anything
    with pytest.raises(UsageError, match="--wordnet takes the folder"):
        read_wordnet(wordnet / "nowhere")


def test_examples(wordnet: Path) -> None:
    sources = build_sources([INTENTS, EMOTIONS], read_wordnet(wordnet))
    examples = draw_examples(sources, Random(1), 600, 6)
    assert examples == draw_examples(sources, Random(1), 600, 6)
    assert examples != draw_examples(sources, Random(2), 600, 6)
    texts = {example.text for example in examples}
    assert {"x", "grr", "a young dog"} <= texts
    assert "z" not in texts  # "not labeled" is bookkeeping, not meaning
    for example in examples:
        assert len(example.labels) == len(example.holds) >= 1
        assert "not labeled" not in example.labels
    assert any(not any(example.holds) for example in examples if len(example.holds) > 1)
    sentiments = [e for e in examples if e.text == "grr" and set(e.labels) <= set(GRADES)]
    assert sentiments
    for example in sentiments:
        held = {label for label, holds in zip(example.labels, example.holds, strict=True) if holds}
        assert held <= {"negative", "very negative"}
