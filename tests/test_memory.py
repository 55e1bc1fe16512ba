"""A process that labels keeps its memory as it should."""

from __future__ import annotations

import subprocess
import sys

# in a process of its own, for what is set stays set
CHECK = """
import gc
from streamer.memory import settle_memory
settle_memory()
assert gc.isenabled()
assert gc.get_freeze_count() > 0
cycle = [None]
cycle[0] = cycle
del cycle
assert gc.collect() >= 1
kept = [bytes(1000) for _ in range(100_000)]
del kept
assert len([bytes(1000) for _ in range(100_000)]) == 100_000
"""


def test_memory_is_settled_and_garbage_still_found() -> None:
    subprocess.run([sys.executable, "-c", CHECK], check=True, timeout=60)
