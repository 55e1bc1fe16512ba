"""What deploy/kafka/kafka.sh says when it cannot do what it is asked. Needs no broker."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy" / "kafka"
TOOLS = ("bash", "env", "dirname", "sed", "head", "cat", "cmp", "rm", "mkdir", "cp", "ps", "grep", "sleep")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A copy with a home of its own, and a folder `bin` to find its tools in: those every system has."""
    shutil.copytree(DEPLOY, tmp_path / "deploy" / "kafka")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None, tool
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path / "deploy" / "kafka" / "kafka.sh"


def run(script: Path, *arguments: str) -> tuple[int, str]:
    path = script.parents[2] / "bin"
    done = subprocess.run(
        [path / "bash", script, *arguments], capture_output=True, text=True, check=False, env={"PATH": str(path)}
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.strip()


def fake_java(script: Path, version: str) -> None:
    java = script.parents[2] / "bin" / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n", encoding="utf-8")
    java.chmod(0o755)


def test_it_tells_its_verbs(script: Path) -> None:
    assert run(script) == (2, "usage: kafka.sh up|down|status")
    assert run(script, "upp") == (2, "usage: kafka.sh up|down|status")


def test_down_is_no_error_when_it_is_down(script: Path) -> None:
    assert run(script, "status") == (1, "down")
    assert run(script, "down") == (0, "")


def test_a_stale_process_number_is_not_taken_for_the_broker(script: Path) -> None:
    home = script.parents[2] / ".kafka"
    home.mkdir()
    (home / "broker.pid").write_text("1", encoding="utf-8")
    assert run(script, "status") == (1, "down")
    assert run(script, "down") == (0, "")
    assert not (home / "broker.pid").exists()


def test_missing_tools_are_named(script: Path) -> None:
    assert run(script, "up") == (
        1,
        "kafka.sh: java is missing; install a Java runtime, version 17 or newer",
    )
    fake_java(script, "11.0.22")
    assert run(script, "up") == (1, "kafka.sh: java is version 11; Kafka needs 17 or newer")
    fake_java(script, "17.0.15")
    assert run(script, "up") == (
        1,
        "kafka.sh: mvn is missing; install Apache Maven, it fetches Kafka's jars from Maven Central",
    )
