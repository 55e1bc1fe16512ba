"""Group listeners for tests in which nobody looks at what a group does."""

from __future__ import annotations

from collections.abc import Collection

from streamer.records import Partition
from streamer.transport.base import Offsets


class Deaf:
    """A GroupListener that does nothing."""

    def on_assigned(self, partitions: Collection[Partition]) -> None: ...

    def on_revoked(self, partitions: Collection[Partition]) -> None: ...

    def on_lost(self, partitions: Collection[Partition]) -> None: ...

    def on_committed(self, offsets: Offsets) -> None: ...
