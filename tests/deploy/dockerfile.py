"""A Dockerfile as its instructions, by stage.

Enters: the text. Leaves: stages in their order. Knows comments, lines that go on, and ARGs before the first FROM.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Stage:
    """`base` is an image or a stage; `steps` are (instruction, rest of the line)."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [rest for name, rest in self.steps if name == instruction]

    def json(self, instruction: str) -> Any:
        """What stands last in exec form, flags before it left out."""
        rest = self.all(instruction)[-1]
        return json.loads(rest[rest.index("[") :])

    def pairs(self, instruction: str) -> dict[str, str]:
        """NAME=value of ENV, ARG or LABEL; an ARG without a value is not there."""
        words = [word for rest in self.all(instruction) for word in shlex.split(rest)]
        return dict(word.split("=", 1) for word in words if "=" in word)


def read_stages(text: str) -> tuple[dict[str, str], dict[str, Stage]]:
    """ARGs of all stages with their defaults, and the stages by name."""
    text = re.sub(r"(?m)^\s*#.*\n", "", text)
    text = re.sub(r"\\\n\s*", "", text)
    before = Stage("", "")
    stages: dict[str, Stage] = {}
    stage = before
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, rest = line.split(None, 1)
        if instruction == "FROM":
            base, _, name = rest.split()
            stage = stages[name] = Stage(name, base)
        else:
            stage.steps.append((instruction, rest))
    return before.pairs("ARG"), stages


def lineage(stages: dict[str, Stage], name: str) -> Stage:
    """A stage with the steps of those it is built on, as far as they are stages."""
    one = stages[name]
    if one.base not in stages:
        return one
    below = lineage(stages, one.base)
    return Stage(name, below.base, [*below.steps, *one.steps])
