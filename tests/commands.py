"""What the fixture `command` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Command: TypeAlias = Callable[..., tuple[int, str, str]]
