"""Programs that tests start and Python does not bring: helm, promtool, a browser and the like.

Enters: a program's name. Leaves: its path; or the test is skipped, and with REQUIRE_TOOLS=1 (CI) it fails.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / ".tools" / "bin"
# one program, named otherwise by other systems
NAMES = {"chromium": ("chromium", "chromium-browser", "google-chrome")}


def require_tool(name: str) -> str:
    """Path of the program, from .tools/bin (`make tools`) or else the PATH; skips or fails where it is missing."""
    for one in NAMES.get(name, (name,)):
        found = shutil.which(one, path=TOOLS) or shutil.which(one)
        if found is not None:
            return found
    reason = f"{name} is missing; run: make tools"
    if os.environ.get("REQUIRE_TOOLS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
