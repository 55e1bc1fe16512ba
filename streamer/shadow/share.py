"""Which records the shadow gets: always the same share of them, by their position.

Enters: envelopes. Leaves: places of those that belong to the share. Must not know: what becomes of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np

from streamer.records import Envelope

_BITS = 53  # as many as a float keeps
_OFFSET = np.uint64(0x9E3779B97F4A7C15)


class Share:
    """A share in 0..1 for each topic; topics without one have none.

    A record belongs to it by a hash of its position, so a record that is read again belongs again, and every process
    takes the same ones. A window costs some microseconds and some tenths for each record.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._limit_of = {topic: int(share * 2**_BITS) for topic, share in shares.items()}
        self._rows: dict[tuple[str, int], int] = {}  # of partitions seen so far, in the two below
        self._seeds = np.empty(0, dtype=np.uint64)
        self._limits = np.empty(0, dtype=np.uint64)

    def places(self, envelopes: Sequence[Envelope[object]]) -> list[int]:
        """Places of the records that belong to the share, in order."""
        positions = [envelope[0] for envelope in envelopes]
        at = [position[:2] for position in positions]
        if not self._rows.keys() >= set(at):
            self._learn(set(at))
        rows = np.array([self._rows[one] for one in at], dtype=np.intp)
        offsets = np.array([position[2] for position in positions], dtype=np.uint64)
        hashes = _mixed(self._seeds[rows] + offsets * _OFFSET) >> np.uint64(64 - _BITS)
        places: list[int] = np.flatnonzero(hashes < self._limits[rows]).tolist()
        return places

    def _learn(self, partitions: set[tuple[str, int]]) -> None:
        for topic, partition in partitions - self._rows.keys():
            digest = blake2b(f"{topic}-{partition}".encode(), digest_size=8).digest()
            self._rows[topic, partition] = len(self._seeds)
            self._seeds = np.append(self._seeds, np.uint64(int.from_bytes(digest, "little")))
            self._limits = np.append(self._limits, np.uint64(self._limit_of.get(topic, 0)))


def _mixed(seeds: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """The finaliser of splitmix64 (Steele et al. 2014)."""
    mixed = (seeds ^ (seeds >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
