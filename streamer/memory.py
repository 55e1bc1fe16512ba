"""How a process that labels for weeks keeps its memory: set once, before the first record.

Enters: nothing. Leaves: a collector and an allocator that fit a steady stream of records. Must not know: records.
"""

from __future__ import annotations

import ctypes
import gc

# of glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_KEPT_BYTES = 64 * 1024 * 1024
_GROWTH_BYTES = 1024 * 1024
_LARGEST_FROM_HEAP_BYTES = 32 * 1024 * 1024  # the most that glibc takes


def settle_memory() -> None:
    """Call when everything that stays is loaded."""
    _spare_the_collector()
    _keep_what_is_freed()


def _spare_the_collector() -> None:
    """What is loaded stays to the end, and records make no cycles: without this, looking through all of it for
    garbage takes a third of the time at full speed, 100 ms at a stretch. The first generation holds what thousands of
    records on the road are made of, else it is looked through while they are."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def _keep_what_is_freed() -> None:
    """Windows come and go, and with each the memory for thousands of events. glibc hands it back to the system and asks
    for it again each time, which costs more than writing the events. So it keeps up to _KEPT_BYTES. Other C libraries
    stay as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_TOP_PAD, _GROWTH_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGEST_FROM_HEAP_BYTES)
