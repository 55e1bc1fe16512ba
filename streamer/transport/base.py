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


class GroupListener(Protocol):
    """What the pipeline does when partitions come and go, and when a commit is answered; called from inside `poll`,
    `commit` and `close`."""

    def on_assigned(self, partitions: Collection[Partition]) -> None: ...

    def on_revoked(self, partitions: Collection[Partition]) -> None:
        """Still ours until this returns: finish, commit, let go."""

    def on_lost(self, partitions: Collection[Partition]) -> None:
        """No longer ours: drop, commit nothing."""

    def on_committed(self, offsets: Offsets) -> None:
        """The broker answered the last `commit`: these offsets are committed; none when it failed (which is
        logged)."""


class Source(Protocol):
    """Records of a consumer group."""

    def subscribe(self, listener: GroupListener) -> None:
        """Join the group. Called once, before the first poll."""

    def poll(self, max_records: int, timeout_s: float) -> list[Envelope[None]]:
        """Up to `max_records` records, waiting at most `timeout_s` for the first. Keeps the membership alive,
        also while paused. Raises TransientError or FatalError."""

    def pause(self, topics: Collection[str]) -> None:
        """Deliver nothing of these topics until resumed, whatever is assigned meanwhile."""

    def resume(self, topics: Collection[str]) -> None: ...

    def commit(self, offsets: Offsets, *, wait: bool) -> None:
        """Commit outside a transaction; the listener's on_committed tells the result, once for every commit. With
        `wait` it does so before this returns, else from inside a later poll. One commit at a time.

        With `wait`, raises TransientError when the commit failed for now."""

    def rewind(self, offsets: Offsets | None) -> None:
        """Read again from `offsets`, or from what the group has committed; bumps the epoch of the partitions.

        Raises TransientError when the broker does not answer; rewind again then."""

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

    @property
    def full(self) -> bool:
        """Whether as much waits for its acknowledgement as there is memory for: send no more for now."""

    def send(self, message: Outbound, on_delivered: OnDelivered) -> None:
        """Queue a message, beyond `full` too. This never drops; it waits (at most 50 ms at a time, serving
        acknowledgements) only where `full` was not heeded. `on_delivered` runs later, inside send or flush of the same
        thread."""

    def flush(self, timeout_s: float) -> int:
        """Serve acknowledgements for up to `timeout_s` (0: only those at hand); returns messages outstanding."""

    def close(self) -> None: ...


class Settling(Protocol):
    """A transaction that is being committed or aborted."""

    def wait(self, timeout_s: float) -> bool:
        """Whether it is done, after at most `timeout_s`; then the sink can begin another one.

        Raises RewindError when the transaction did not commit or nobody knows whether it did: the sink is ready for
        another one, and what was read since the last commit must be read again. Raises TransientError when the broker
        stays away, FatalError when the sink cannot go on: fenced by another holder of its id, or hanging."""


class TransactionalSink(Sink, Protocol):
    """A sink whose messages a read_committed reader sees together with the offsets they came from, or never.

    `begin`, `send` and `flush` raise RewindError when the transaction is worthless: abort it."""

    def open(self) -> None:
        """Take up the transactional id: whatever an earlier holder left open is aborted before this returns."""

    def begin(self) -> None:
        """Open a transaction; needed before `send`."""

    def commit(self, offsets: Offsets, token: CommitToken) -> Settling:
        """Begin to commit the transaction with the offsets it covers. Nothing can be sent until it is done."""

    def abort(self) -> Settling:
        """Begin to abort the transaction; its messages get no report any more."""
