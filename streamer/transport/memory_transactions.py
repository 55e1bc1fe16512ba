"""A transactional sink in plain memory.

Enters: messages for a MemoryBroker, and what a test does to it. Leaves: topics that hold the messages of committed
transactions only, together with their offsets. Must not know: Kafka's client.
"""

from __future__ import annotations

from collections.abc import Callable

from streamer.errors import FatalError, RewindError, TransientError
from streamer.records import Outbound
from streamer.transport.base import CommitToken, DeliveryOutcome, Offsets, OnDelivered
from streamer.transport.memory import MemorySink, MemoryToken
from streamer.transport.memory_broker import MemoryBroker


class MemorySettling:
    """Done, or failed, at the look after `looks` others."""

    def __init__(self, *, looks: int, act: Callable[[], None]) -> None:
        self._looks = looks
        self._act = act

    def wait(self, timeout_s: float) -> bool:
        if self._looks > 0:
            self._looks -= 1
            return False
        try:
            self._act()
        except TransientError as error:
            raise RewindError(str(error)) from None
        return True


class MemoryTransactionalSink(MemorySink):
    """Nothing is in its topics before the transaction commits.

    `looks` says how often one has to wait in vain for a commit or an abort. They come to nothing where the broker's
    `fault` raises; at "transaction done" the commit took effect, so raising there loses the answer only.
    """

    def __init__(self, *, broker: MemoryBroker, looks: int) -> None:
        super().__init__(broker=broker)
        self.looks = looks
        self._inside: list[Outbound] | None = None
        self._failed = False
        self._busy = False

    def open(self) -> None:
        self._broker.fault("open")

    def begin(self) -> None:
        if self._inside is not None or self._busy:
            raise FatalError("a transaction is open already")
        try:
            self._broker.fault("begin")
        except TransientError as error:
            raise RewindError(str(error)) from None
        self._inside, self._failed = [], False

    def send(self, message: Outbound, on_delivered: OnDelivered) -> None:
        if self._inside is None or self._busy:
            raise FatalError("a transactional sink was sent a message outside a transaction")
        super().send(message, on_delivered)

    def commit(self, offsets: Offsets, token: CommitToken) -> MemorySettling:
        """Comes to nothing when a message was not taken, and when a rebalance made the token worthless."""
        if self._inside is None or not isinstance(token, MemoryToken):
            raise FatalError("commit needs an open transaction and the token of a MemorySource")
        self._busy = True
        return MemorySettling(looks=self.looks, act=lambda: self._commit(offsets, token))

    def _commit(self, offsets: Offsets, token: MemoryToken) -> None:
        written, self._inside, self._busy = self._inside or [], None, False
        self._broker.fault("transaction")
        if self._failed or token.generation != self._broker.generation(token.member):
            raise TransientError("the transaction cannot commit: a message was not taken or the group has rebalanced")
        for message in written:
            self._write(message)
        self._broker.commit(token.member.group_id, offsets)
        self._broker.fault("transaction done")

    def abort(self) -> MemorySettling:
        self._unreported.clear()
        self._busy = True
        return MemorySettling(looks=self.looks, act=self._abort)

    def _abort(self) -> None:
        self._inside, self._busy = None, False
        self._broker.fault("abort")

    def close(self) -> None:
        self._inside = None
        super().close()

    def _take(self, message: Outbound, outcome: DeliveryOutcome) -> None:
        if outcome is not None:
            self._failed = True
        elif self._inside is not None:
            self._inside.append(message)
