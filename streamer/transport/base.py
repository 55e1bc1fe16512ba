"""The transport's port: records in, messages out, offsets committed, and nothing of labels.

A Source and a Sink are driven by one thread, the pipeline's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from streamer.records import Envelope, Outbound, Partition

# next offset to read, by partition
Offsets: TypeAlias = Mapping[Partition, int]

# opaque to the pipeline: made by a Source, understood by the Sink of the same transport
CommitToken: TypeAlias = object


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a partition's consumer is behind: records, and seconds since the oldest unread one was written.

    `seconds` is None while it is unknown (nothing read yet, or no timestamps)."""

    records: int
    seconds: float | None


class RebalanceListener(Protocol):
    """What the pipeline does when partitions come and go; called from inside `poll` and `close`."""

    def on_assigned(self, partitions: Collection[Partition]) -> None: ...

    def on_revoked(self, partitions: Collection[Partition]) -> None:
        """Still ours until this returns: finish, commit, let go."""

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """No longer ours: drop, commit nothing."""


class Source(Protocol):
    """Records of a consumer group."""

    def subscribe(self, listener: RebalanceListener) -> None:
        """Join the group. Called once, before the first poll."""

    def poll(self, max_records: int, timeout_s: float) -> list[Envelope[None]]:
        """Up to `max_records` records, waiting at most `timeout_s` for the first. Keeps the membership alive,
        also while paused. Raises TransientError or FatalError."""

    def pause(self, topics: Collection[str]) -> None:
        """Deliver nothing of these topics until resumed, whatever is assigned meanwhile."""

    def resume(self, topics: Collection[str]) -> None: ...

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        """Commit outside a transaction; with `wait` false the result is only logged."""

    def rewind(self, offsets: Offsets | None) -> None:
        """Read again from `offsets`, or from what the group has committed; bumps the epoch of the partitions."""

    def commit_token(self) -> CommitToken:
        """What a transactional sink needs to commit offsets for this member."""

    def lag(self) -> Mapping[Partition, Lag]:
        """Lag of every assigned partition, from facts at hand (no request to the broker)."""

    def close(self) -> None:
        """Leave the group; the listener's on_revoked runs first."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker will never take this message (too large, null key on a compacted topic, bad timestamp)."""

    reason: str


# None: acknowledged. Refused: this message never. DeliveryError: not delivered, and the sink cannot go on.
DeliveryOutcome: TypeAlias = Refused | Exception | None
OnDelivered: TypeAlias = Callable[[DeliveryOutcome], None]


class Sink(Protocol):
    """Messages to topics, with acknowledgement per message."""

    def send(self, message: Outbound, on_delivered: OnDelivered) -> None:
        """Queue a message. A full queue is backpressure: this waits (at most 50 ms at a time, serving
        acknowledgements) and never drops. `on_delivered` runs later, inside send or flush of the same thread."""

    def flush(self, timeout_s: float) -> int:
        """Serve acknowledgements for up to `timeout_s` (0: only those at hand); returns messages outstanding."""

    def begin(self) -> None:
        """Open a transaction; outside exactly_once does nothing."""

    def commit(self, offsets: Offsets, token: CommitToken) -> None:
        """Commit the transaction with the offsets it covers; outside exactly_once does nothing."""

    def abort(self) -> None:
        """Abort the transaction; outside exactly_once does nothing."""

    def close(self) -> None: ...
