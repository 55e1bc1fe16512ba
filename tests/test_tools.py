"""Programs that tests start: found, or skipped with what to do, or required."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tools import require_tool

SCRIPT = Path(__file__).parents[1] / "deploy" / "tools.sh"


def test_a_program_is_found_by_its_name_or_another() -> None:
    assert Path(require_tool("sh")).name == "sh"


def test_a_missing_program_skips_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUIRE_TOOLS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool is missing; run: make tools"):
        require_tool("no-such-tool")


def test_a_missing_program_fails_where_tools_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_TOOLS", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-tool is missing; run: make tools"):
        require_tool("no-such-tool")


def test_the_script_refuses_a_name_it_does_not_know() -> None:
    done = subprocess.run([SCRIPT, "no-such-tool"], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: tools.sh [hadolint promtool ")


def test_the_script_says_in_a_line_what_a_computer_lacks(tmp_path: Path) -> None:
    """Without Go, in a checkout of its own; no program that is there already is fetched again."""
    script = tmp_path / "deploy" / "tools.sh"
    script.parent.mkdir()
    script.write_bytes(SCRIPT.read_bytes())
    for name in ("bash", "dirname", "mkdir", "cat"):
        (tmp_path / name).symlink_to(require_tool(name))
    done = subprocess.run(
        [require_tool("bash"), script, "kubeconform"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr == "tools.sh: kubeconform: go is missing; install Go 1.24 or newer, it builds kubeconform\n"
