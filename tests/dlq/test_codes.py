"""Every code that the sources can give a dead letter is explained."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from streamer.dlq.codes import EXPLANATIONS, UNKNOWN, explain_code

ROOT = Path(__file__).parents[2] / "streamer"


def codes_in(source: Path) -> set[str]:
    """First arguments of `Reject(...)`; fails for one that is no literal, as this test could not see it."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Reject":
            code = node.args[0] if node.args else next(word.value for word in node.keywords if word.arg == "code")
            assert isinstance(code, ast.Constant), f"{source}:{node.lineno}: write the code out"
            found.add(str(code.value))
    return found


# feedback rejects corrections, which no dead letter tells of
ON_THE_ROAD = [path for path in ROOT.rglob("*.py") if path.parent != ROOT / "feedback"]
PRODUCED = set().union(*(codes_in(path) for path in ON_THE_ROAD))


def test_the_sources_are_searched() -> None:
    assert {"not_json", "output_refused", "engine_out_of_memory"} <= PRODUCED


@pytest.mark.parametrize("code", sorted(PRODUCED))
def test_every_code_is_explained(code: str) -> None:
    assert code in EXPLANATIONS
    assert explain_code(code) is not UNKNOWN
    assert explain_code(code).meaning.endswith(".")
    assert explain_code(code).remedy.endswith(".")


def test_nothing_is_explained_that_cannot_happen() -> None:
    assert set(EXPLANATIONS) == PRODUCED


def test_an_unknown_code_says_so() -> None:
    assert explain_code("of_tomorrow") is UNKNOWN
