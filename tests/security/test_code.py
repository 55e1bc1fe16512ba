"""Nothing that is read from outside can run: no pickle, no remote code, no shell, nothing evaluated."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "streamer"
MODULES = sorted(ROOT.rglob("*.py"))

# modules that make objects, or programs, of what they read
NOT_IMPORTED = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "subprocess", "pty", "code"}
# calls by the end of their dotted name
NOT_CALLED = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "builtins.eval"),
    *("torch.load", "torch.jit.load", "np.load", "numpy.load", "torch.hub.load"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader"),
}
NOT_GIVEN = {"trust_remote_code", "allow_pickle", "shell"}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def wrong_in(tree: ast.AST) -> list[str]:
    found = [name for name in imported(tree) if name.partition(".")[0] in NOT_IMPORTED]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if dotted(node.func) in NOT_CALLED:
                found.append(dotted(node.func))
            found += [keyword.arg for keyword in node.keywords if keyword.arg in NOT_GIVEN]
    return found


@pytest.mark.parametrize("text", ["import pickle", "torch.load(p)", "f(trust_remote_code=True)", "eval(x)"])
def test_what_is_looked_for_is_found(text: str) -> None:
    assert wrong_in(ast.parse(text))


def test_no_module_can_run_what_it_reads() -> None:
    wrong = {str(path): found for path in MODULES if (found := wrong_in(ast.parse(path.read_text(encoding="utf-8"))))}
    assert wrong == {}


def test_other_libraries_load_weights_as_safetensors_alone() -> None:
    """The engine reads weights itself; `streamer bench` also has its reference load them."""
    calls = {
        str(path.relative_to(ROOT)): {keyword.arg for keyword in node.keywords}
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and dotted(node.func).endswith("from_pretrained")
    }
    assert calls == {"bench/reference.py": {"use_safetensors"}}
